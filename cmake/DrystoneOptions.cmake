# Build options and the flags that every Drystone target shares.

option(DRYSTONE_BUILD_TESTS "Build the tests" ${PROJECT_IS_TOP_LEVEL})
option(DRYSTONE_BUILD_BENCH "Build the benchmarks" OFF)
option(DRYSTONE_ENGINE_ONLY "Only the training engine: needs LibTorch and header-only libraries" OFF)
option(DRYSTONE_TORCH_FREE "Only the folders without LibTorch: for ThreadSanitizer and fuzzing" OFF)
option(DRYSTONE_INSTALL "Install libraries, headers and programs" ${PROJECT_IS_TOP_LEVEL})
option(DRYSTONE_WERROR "Treat warnings as errors" OFF)
option(DRYSTONE_PCH "Use a precompiled header for LibTorch" ON)
option(DRYSTONE_UNITY "Compile sources several at a time: quicker from nothing" OFF)
set(DRYSTONE_MPI "AUTO" CACHE STRING "simulate in several processes: AUTO (where MPI is found), ON, OFF")
set_property(CACHE DRYSTONE_MPI PROPERTY STRINGS AUTO ON OFF)
set(DRYSTONE_SANITIZE "" CACHE STRING "Sanitizers, e.g. address,undefined or thread")
if(DRYSTONE_ENGINE_ONLY AND DRYSTONE_TORCH_FREE)
  message(FATAL_ERROR "DRYSTONE_ENGINE_ONLY and DRYSTONE_TORCH_FREE exclude each other")
endif()

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE RelWithDebInfo)
endif()

find_program(DRYSTONE_CCACHE ccache)
mark_as_advanced(DRYSTONE_CCACHE)
if(DRYSTONE_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # The first makes a precompiled header cacheable; the others let all clones share their hits.
  set(CMAKE_CXX_COMPILER_LAUNCHER
      ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros
      CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1 ${DRYSTONE_CCACHE})
endif()

add_library(drystone_options INTERFACE)
add_library(drystone::options ALIAS drystone_options)
set_target_properties(drystone_options PROPERTIES EXPORT_NAME options)
target_compile_features(drystone_options INTERFACE cxx_std_20)
target_include_directories(
  drystone_options INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>
                             $<INSTALL_INTERFACE:include/drystone>)

# Ours alone: who links an installed Drystone keeps his own warnings and linker.
set(drystone_warnings
    -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wnon-virtual-dtor -Wold-style-cast
    -Woverloaded-virtual
    -Wno-missing-field-initializers  # designated initialisers leave out what has a default
    $<$<BOOL:${DRYSTONE_WERROR}>:-Werror>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # False at -O3 on std::string (GCC bug 105651); the asan preset looks for the real ones.
  list(APPEND drystone_warnings -Wno-restrict -Wno-stringop-overflow -Wno-array-bounds)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND DRYSTONE_CCACHE)
  list(APPEND drystone_warnings -fpch-preprocess)
endif()
target_compile_options(
  drystone_options INTERFACE "$<BUILD_INTERFACE:$<$<COMPILE_LANGUAGE:CXX>:${drystone_warnings}>>")
find_program(DRYSTONE_MOLD mold)
mark_as_advanced(DRYSTONE_MOLD)
if(DRYSTONE_MOLD)
  target_link_options(drystone_options INTERFACE $<BUILD_INTERFACE:-fuse-ld=mold>)
endif()
if(DRYSTONE_SANITIZE)
  target_compile_options(
    drystone_options INTERFACE -fsanitize=${DRYSTONE_SANITIZE} -fno-omit-frame-pointer
                               -fno-sanitize-recover=all
                               # false in instrumented std::variant
                               $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
  target_link_options(drystone_options INTERFACE -fsanitize=${DRYSTONE_SANITIZE})
endif()
