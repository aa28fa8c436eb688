# Finds LibTorch: Torch_DIR or CMAKE_PREFIX_PATH if given, else the project's own .venv.

if(NOT Torch_DIR AND EXISTS ${PROJECT_SOURCE_DIR}/.venv/bin/python)
  execute_process(
    COMMAND ${PROJECT_SOURCE_DIR}/.venv/bin/python -c
            "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
    OUTPUT_VARIABLE drystone_torch_root OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  list(APPEND CMAKE_PREFIX_PATH ${drystone_torch_root}/share/cmake)
endif()
find_package(Torch REQUIRED)

# The imported target carries Caffe2's flags; system includes keep its headers out of our warnings.
add_library(drystone_torch INTERFACE)
target_link_libraries(drystone_torch INTERFACE torch)
target_include_directories(drystone_torch SYSTEM INTERFACE ${TORCH_INCLUDE_DIRS})
target_compile_definitions(drystone_torch INTERFACE AT_PER_OPERATOR_HEADERS)
