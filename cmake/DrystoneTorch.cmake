# Makes drystone::torch, the imported target for LibTorch. Looked for in Torch_DIR, then in
# CMAKE_PREFIX_PATH, then in the project's .venv.
#
# TorchConfig.cmake itself is not run: a CUDA build's refuses a machine without the whole CUDA
# toolkit, though nothing here compiles for CUDA, and it brings along MKL, protobuf and global flags.
# What is needed is where the headers and shared libraries are.

set(DRYSTONE_TORCH_MINIMUM 2.11)

if(NOT TARGET drystone::torch)
  set(drystone_torch_places ${Torch_DIR} $ENV{Torch_DIR} ${CMAKE_PREFIX_PATH})
  cmake_path(CONVERT "$ENV{CMAKE_PREFIX_PATH}" TO_CMAKE_PATH_LIST drystone_torch_prefixes)
  if(PROJECT_IS_TOP_LEVEL)
    file(GLOB drystone_torch_venv ${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch)
  endif()
  find_path(DRYSTONE_TORCH_CMAKE TorchConfig.cmake NO_CACHE NO_DEFAULT_PATH
            PATHS ${drystone_torch_places} ${drystone_torch_prefixes} ${drystone_torch_venv}
            PATH_SUFFIXES share/cmake/Torch Torch lib/cmake/Torch)
  if(NOT DRYSTONE_TORCH_CMAKE)
    message(FATAL_ERROR "No LibTorch: `./dev build` installs one into .venv; or give "
                        "-DTorch_DIR=<libtorch>/share/cmake/Torch, or have it in CMAKE_PREFIX_PATH")
  endif()

  include(${DRYSTONE_TORCH_CMAKE}/TorchConfigVersion.cmake)
  set(DRYSTONE_TORCH_VERSION ${PACKAGE_VERSION})
  unset(PACKAGE_VERSION)
  cmake_path(SET drystone_torch_root NORMALIZE ${DRYSTONE_TORCH_CMAKE}/../../..)
  set(DRYSTONE_TORCH_LIB ${drystone_torch_root}lib)
  message(STATUS "LibTorch ${DRYSTONE_TORCH_VERSION} in ${drystone_torch_root}")
  if(DRYSTONE_TORCH_VERSION VERSION_LESS DRYSTONE_TORCH_MINIMUM)
    message(FATAL_ERROR "LibTorch ${DRYSTONE_TORCH_VERSION} is too old: "
                        "${DRYSTONE_TORCH_MINIMUM} or newer is needed")
  endif()

  add_library(drystone::torch INTERFACE IMPORTED GLOBAL)
  target_include_directories(
    drystone::torch INTERFACE ${drystone_torch_root}include
                              ${drystone_torch_root}include/torch/csrc/api/include)
  target_compile_definitions(drystone::torch INTERFACE AT_PER_OPERATOR_HEADERS)
  target_link_libraries(drystone::torch INTERFACE ${drystone_torch_root}lib/libtorch_cpu.so
                                                  ${drystone_torch_root}lib/libc10.so)
  if(EXISTS ${drystone_torch_root}lib/libtorch_cuda.so)
    # Nothing calls into it by name: it registers itself when it is loaded. The NVIDIA libraries
    # that it needs are found at run time, by its own run path.
    set(drystone_torch_cuda -Wl,--push-state,--no-as-needed ${drystone_torch_root}lib/libtorch_cuda.so
                            ${drystone_torch_root}lib/libc10_cuda.so -Wl,--pop-state)
    list(JOIN drystone_torch_cuda " " drystone_torch_cuda)
    target_link_libraries(drystone::torch INTERFACE ${drystone_torch_cuda})
    target_link_options(drystone::torch INTERFACE -Wl,--allow-shlib-undefined)
  endif()
endif()
