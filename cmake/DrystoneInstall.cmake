# cmake --install: libraries, headers, programs and a package for find_package(drystone).

include(CMakePackageConfigHelpers)
include(GNUInstallDirs)
set(drystone_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/drystone)

set(drystone_libraries drystone_options)
foreach(folder IN LISTS DRYSTONE_FOLDERS)
  list(APPEND drystone_libraries drystone_${folder})
  set_target_properties(drystone_${folder} PROPERTIES EXPORT_NAME ${folder})
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/${folder} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/drystone
          FILES_MATCHING PATTERN "*.h")
endforeach()
install(TARGETS ${drystone_libraries} EXPORT drystone ARCHIVE)
install(EXPORT drystone NAMESPACE drystone:: FILE drystone-targets.cmake
        DESTINATION ${drystone_package_dir})

get_target_property(drystone_programs drystone_programs MANUALLY_ADDED_DEPENDENCIES)
if(drystone_programs)
  # CMake leaves out link paths within the source folder, where .venv lies.
  set_target_properties(${drystone_programs} PROPERTIES INSTALL_RPATH "${DRYSTONE_TORCH_LIB}")
  install(TARGETS ${drystone_programs} RUNTIME)
endif()

set(DRYSTONE_USES_MPI OFF)  # whoever links the package needs it as well
if(TARGET MPI::MPI_C)
  set(DRYSTONE_USES_MPI ON)
endif()
configure_file(${PROJECT_SOURCE_DIR}/cmake/drystone-config.cmake.in drystone-config.cmake @ONLY)
write_basic_package_version_file(drystone-config-version.cmake COMPATIBILITY SameMinorVersion)
install(
  FILES ${PROJECT_BINARY_DIR}/drystone-config.cmake
        ${PROJECT_BINARY_DIR}/drystone-config-version.cmake
        ${PROJECT_SOURCE_DIR}/cmake/DrystoneDependencies.cmake
        ${PROJECT_SOURCE_DIR}/cmake/DrystoneTorch.cmake
  DESTINATION ${drystone_package_dir})
