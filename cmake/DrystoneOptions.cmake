# Build options and the flags that every Drystone target shares.

option(DRYSTONE_BUILD_TESTS "Build the tests" ${PROJECT_IS_TOP_LEVEL})
option(DRYSTONE_BUILD_BENCH "Build the benchmarks" OFF)
option(DRYSTONE_ENGINE_ONLY "Only the training engine: needs LibTorch and header-only libraries" OFF)
option(DRYSTONE_WERROR "Treat warnings as errors" OFF)
option(DRYSTONE_PCH "Use a precompiled header for LibTorch" ON)
set(DRYSTONE_SANITIZE "" CACHE STRING "Sanitizers, e.g. address,undefined or thread")

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE RelWithDebInfo)
endif()

find_program(DRYSTONE_CCACHE ccache)
if(DRYSTONE_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # A precompiled header is cacheable only with these two settings.
  set(CMAKE_CXX_COMPILER_LAUNCHER
      ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros
      CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} ${DRYSTONE_CCACHE})
endif()

add_library(drystone_options INTERFACE)
add_library(drystone::options ALIAS drystone_options)
target_include_directories(drystone_options INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>)
target_compile_options(
  drystone_options
  INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wnon-virtual-dtor -Wold-style-cast
            -Woverloaded-virtual -fpch-preprocess $<$<BOOL:${DRYSTONE_WERROR}>:-Werror>)
find_program(DRYSTONE_MOLD mold)
if(DRYSTONE_MOLD)
  target_link_options(drystone_options INTERFACE -fuse-ld=mold)
endif()
if(DRYSTONE_SANITIZE)
  target_compile_options(drystone_options INTERFACE -fsanitize=${DRYSTONE_SANITIZE}
                                                    -fno-omit-frame-pointer)
  target_link_options(drystone_options INTERFACE -fsanitize=${DRYSTONE_SANITIZE})
endif()
