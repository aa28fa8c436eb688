# drystone_library, _program, _test and _bench: the only ways in which targets are made.

# What a test's sources and their precompiled header have in common: GCC takes it only so.
function(drystone_compile_as_test target)
  target_compile_definitions(
    ${target} PRIVATE DRYSTONE_SOURCE_DIR="${PROJECT_SOURCE_DIR}"
                      DRYSTONE_BINARY_DIR="${PROJECT_BINARY_DIR}")
  target_compile_options(${target} PRIVATE -O0)
endfunction()

# One precompiled header serves every target that sees LibTorch, another its tests. These are not
# optimised: they compile in two thirds of the time, and what they test is.
if(DRYSTONE_PCH AND NOT DRYSTONE_TORCH_FREE)
  add_library(drystone_pch OBJECT ${PROJECT_SOURCE_DIR}/cmake/pch.cpp)
  target_link_libraries(drystone_pch PRIVATE drystone_options drystone::torch)
  target_precompile_headers(drystone_pch PRIVATE ${PROJECT_SOURCE_DIR}/cmake/pch.h)
  if(DRYSTONE_BUILD_TESTS)
    find_package(doctest REQUIRED)
    add_library(drystone_test_pch OBJECT EXCLUDE_FROM_ALL ${PROJECT_SOURCE_DIR}/cmake/pch.cpp)
    target_link_libraries(drystone_test_pch PRIVATE drystone_options drystone::torch
                                                    doctest::doctest nlohmann_json::nlohmann_json)
    drystone_compile_as_test(drystone_test_pch)
    target_precompile_headers(drystone_test_pch PRIVATE ${PROJECT_SOURCE_DIR}/cmake/test_pch.h)
  endif()
endif()

set(DRYSTONE_HEAP "$<TARGET_NAME_IF_EXISTS:PkgConfig::JEMALLOC>")

add_custom_target(drystone_programs)
add_custom_target(drystone_benches)

function(drystone_use_torch target scope)
  target_link_libraries(${target} ${scope} drystone::torch)
  if(TARGET drystone_pch)
    target_precompile_headers(${target} REUSE_FROM drystone_pch)
  endif()
endfunction()

# drystone_library(<folder> [TORCH] [APART] SOURCES … [DEPS …] [PRIVATE_DEPS …])
# Static library drystone_<folder> with alias drystone::<folder>. APART: its sources are compiled one
# by one, and may have names of their own in common.
function(drystone_library name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "TORCH;APART" "" "SOURCES;DEPS;PRIVATE_DEPS")
  add_library(drystone_${name} STATIC ${arg_SOURCES})
  add_library(drystone::${name} ALIAS drystone_${name})
  target_link_libraries(drystone_${name} PUBLIC drystone_options ${arg_DEPS}
                        PRIVATE ${arg_PRIVATE_DEPS})
  # The compiler instantiates what a precompiled header uses anew for each source: several at a time
  # cost little more than one.
  if(DRYSTONE_UNITY AND NOT arg_APART)
    set_target_properties(drystone_${name} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 4)
    # GCC takes every source but the first for a header.
    target_compile_options(drystone_${name}
                           PRIVATE $<$<CXX_COMPILER_ID:GNU>:-Wno-subobject-linkage>)
  endif()
  if(arg_TORCH)
    drystone_use_torch(drystone_${name} PUBLIC)
  endif()
endfunction()

# drystone_program(<name> [TORCH] SOURCES … DEPS …): lands in bin/ and belongs to drystone_programs.
function(drystone_program name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "TORCH" "" "SOURCES;DEPS")
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE drystone_options ${arg_DEPS} ${DRYSTONE_HEAP})
  if(arg_TORCH)
    drystone_use_torch(${name} PRIVATE)
  endif()
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
  add_dependencies(drystone_programs ${name})
endfunction()

# Writes sources that compile a folder's tests four at a time, and sets `batches` to their names.
# CMake's own would not do: helpers of several tests have the same name. Here each test is in a
# namespace of its own, within the one that it opens itself, so that it sees what it saw; what it
# includes is included before, outside.
function(drystone_batch_tests batches)
  list(LENGTH ARGN num_tests)
  math(EXPR num_batches "(${num_tests} + 3) / 4")
  file(RELATIVE_PATH folder ${PROJECT_SOURCE_DIR} ${CMAKE_CURRENT_SOURCE_DIR})
  set(files)
  set(begin 0)
  foreach(batch RANGE 1 ${num_batches})
    math(EXPR end "${num_tests} * ${batch} / ${num_batches}")
    math(EXPR size "${end} - ${begin}")
    list(SUBLIST ARGN ${begin} ${size} sources)
    set(begin ${end})
    set(headers)
    set(tests)
    foreach(source IN LISTS sources)
      file(STRINGS ${source} included REGEX "^#include ")
      foreach(line IN LISTS included)
        string(REGEX REPLACE "^#include [\"<](.+)[\">].*" "\\1" header "${line}")
        if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${header})
          set(line "#include \"${folder}/${header}\"")
        endif()
        list(APPEND headers ${line})
      endforeach()
      get_filename_component(stem ${source} NAME_WE)
      set(test "namespace of_${stem} {\n#include \"${folder}/${source}\"\n}\n")
      file(STRINGS ${source} opened LIMIT_COUNT 1 REGEX "^namespace drystone[a-z_:]* {")
      if(opened)
        set(test "${opened}\n${test}}\n")
      endif()
      string(APPEND tests "${test}")
    endforeach()
    list(REMOVE_DUPLICATES headers)
    list(JOIN headers "\n" headers)
    set(file ${CMAKE_CURRENT_BINARY_DIR}/Unity/batch_${batch}.cpp)
    file(CONFIGURE OUTPUT ${file} CONTENT "${headers}\n${tests}" @ONLY)
    list(APPEND files ${file})
  endforeach()
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${ARGN})
  set(${batches} ${files} PARENT_SCOPE)
endfunction()

function(drystone_set_up_test target with_torch)
  target_link_libraries(${target} PRIVATE drystone_options doctest::doctest ${ARGN})
  if(with_torch)
    drystone_compile_as_test(${target})
    target_link_libraries(${target} PRIVATE drystone::torch)
    if(TARGET drystone_test_pch)
      target_link_libraries(${target} PRIVATE nlohmann_json::nlohmann_json)
      target_precompile_headers(${target} REUSE_FROM drystone_test_pch)
    endif()
  else()
    target_compile_definitions(
      ${target} PRIVATE DRYSTONE_SOURCE_DIR="${PROJECT_SOURCE_DIR}"
                        DRYSTONE_BINARY_DIR="${PROJECT_BINARY_DIR}")
  endif()
endfunction()

# drystone_test_helper(<name> [TORCH] SOURCES … DEPS …): objects drystone_<name> that several programs
# link, by way of their DEPS.
function(drystone_test_helper name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "TORCH" "" "SOURCES;DEPS")
  add_library(drystone_${name} OBJECT ${arg_SOURCES})
  drystone_set_up_test(drystone_${name} ${arg_TORCH} ${arg_DEPS})
endfunction()

# drystone_test(<folder> [TORCH] [SOURCES …] DEPS …): one binary a folder, one ctest entry a source file.
# Without SOURCES: every *_test.cpp there.
function(drystone_test folder)
  cmake_parse_arguments(PARSE_ARGV 1 arg "TORCH" "" "SOURCES;DEPS")
  set(target drystone_${folder}_tests)
  if(NOT arg_SOURCES)
    file(GLOB arg_SOURCES CONFIGURE_DEPENDS RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} *_test.cpp)
  endif()
  set(compiled ${arg_SOURCES})
  if(DRYSTONE_UNITY)
    set(tests ${arg_SOURCES})
    list(FILTER tests INCLUDE REGEX "_test\\.cpp$")
    list(REMOVE_ITEM compiled ${tests})
    drystone_batch_tests(batches ${tests})
    list(APPEND compiled ${batches})
  endif()
  add_executable(${target} ${compiled})
  if(DRYSTONE_UNITY)
    # GCC takes the tests of a batch for headers.
    target_compile_options(${target} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-Wno-subobject-linkage>)
  endif()
  drystone_set_up_test(${target} ${arg_TORCH} drystone_test_main ${arg_DEPS})
  set(timeout 300)
  if(DRYSTONE_SANITIZE)
    set(timeout 1800)
  endif()
  foreach(source IN LISTS arg_SOURCES)
    get_filename_component(stem ${source} NAME_WE)
    if(stem MATCHES "_test$")
      add_test(NAME ${folder}/${stem} COMMAND ${target} --source-file=*/${stem}.cpp
               WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
      # Tests run beside each other: threads that spin while they wait would starve the others.
      set_tests_properties(${folder}/${stem} PROPERTIES TIMEOUT ${timeout} LABELS ${folder}
                           ENVIRONMENT OMP_WAIT_POLICY=passive
                           FAIL_REGULAR_EXPRESSION "test cases: +0 ")  # a filter that fits no test
    endif()
  endforeach()
endfunction()

# drystone_bench(<name> [TORCH] SOURCES … DEPS …): lands in bench/ and belongs to drystone_benches;
# `./dev bench` runs those that are called <name>_bench.
function(drystone_bench name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "TORCH" "" "SOURCES;DEPS")
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE drystone_options ${arg_DEPS} ${DRYSTONE_HEAP})
  if(arg_TORCH)
    drystone_use_torch(${name} PRIVATE)
  endif()
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bench)
  add_dependencies(drystone_benches ${name})
endfunction()
