# Every library that Drystone links, found once for all folders; the installed package reads this file
# too. tools/debian-packages.txt names the Debian packages.

find_package(Threads REQUIRED)
find_package(tl-expected REQUIRED)    # tl::expected
find_package(nlohmann_json REQUIRED)  # nlohmann_json::nlohmann_json

if(NOT DRYSTONE_ENGINE_ONLY)
  find_package(spdlog REQUIRED)                         # spdlog::spdlog
  find_package(tomlplusplus REQUIRED)                   # tomlplusplus::tomlplusplus
  find_package(OpenSSL 3.0 REQUIRED COMPONENTS Crypto)  # OpenSSL::Crypto
  find_package(cppzmq REQUIRED)                         # cppzmq
  find_package(CapnProto REQUIRED)                      # CapnProto::capnp; capnp_generate_cpp()
  find_package(SQLite3 REQUIRED)                        # SQLite::SQLite3
  find_package(ICU REQUIRED COMPONENTS uc)              # ICU::uc
  find_package(ZLIB REQUIRED)                           # ZLIB::ZLIB
  find_package(CLI11 REQUIRED)                          # CLI11::CLI11
  find_package(PkgConfig REQUIRED)
  pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)  # PkgConfig::PCRE2
endif()

# The heap of programs, not of libraries: whoever links these chooses an own one. Optional, and a
# sanitizer has its own.
find_package(PkgConfig QUIET)
if(PkgConfig_FOUND AND NOT DRYSTONE_SANITIZE)
  pkg_check_modules(JEMALLOC QUIET IMPORTED_TARGET jemalloc)  # PkgConfig::JEMALLOC
endif()

# For simulations in several processes. Optional; AUTO leaves it out where a sanitizer would look
# into it.
if(DRYSTONE_MPI AND NOT DRYSTONE_ENGINE_ONLY AND NOT DRYSTONE_TORCH_FREE)
  if(NOT DRYSTONE_MPI STREQUAL "AUTO")
    find_package(MPI REQUIRED COMPONENTS C)  # MPI::MPI_C
  elseif(NOT DRYSTONE_SANITIZE)
    find_package(MPI QUIET COMPONENTS C)
  endif()
endif()
