#include "core/name_list.h"

#include <algorithm>

#include <doctest/doctest.h>

#include "core/error.h"

using drystone::core::NameList;

namespace {

std::vector<std::string> all_of(const NameList& names) {
  std::vector<std::string> all;
  all.reserve(names.size());
  for (std::size_t place = 0; place < names.size(); ++place) all.push_back(names[place]);
  return all;
}

}  // namespace

TEST_CASE("NameList: numbered names are the list that they stand for") {
  for (const std::size_t count : {1u, 9u, 10u, 99u, 100u, 1234u}) {
    CAPTURE(count);
    const NameList numbered = NameList::numbered("client-", count);
    const NameList listed(all_of(numbered));  // sorted, or it throws
    REQUIRE(numbered.size() == count);
    for (std::size_t place = 0; place < count; ++place) {
      CHECK(numbered.find(numbered[place]) == place);
      CHECK(listed.find(numbered[place]) == place);
    }
    CHECK(numbered.longest(count) == all_of(listed));
  }
}

TEST_CASE("NameList: nothing but a listed name is found") {
  const NameList numbered = NameList::numbered("client-", 120);
  for (const char* name : {"", "client-", "client-1", "client-01", "client-000", "client-121",
                           "client-0001", "client-+01", "client- 01", "client-0x1", "client-12a",
                           "Client-001", "client-001 ", "client-99999999999999999999999"}) {
    CAPTURE(name);
    CHECK_FALSE(numbered.contains(name));
  }
  const NameList listed(std::vector<std::string>{"a", "b"});
  CHECK_FALSE(listed.contains("ab"));
  CHECK(NameList().empty());
  CHECK_FALSE(NameList().contains(""));
}

TEST_CASE("NameList: the longest names, in order") {
  const NameList names(std::vector<std::string>{"a", "bbb", "cc", "ddd"});
  CHECK(names.longest(2) == std::vector<std::string>{"bbb", "ddd"});
  CHECK(names.longest(3) == std::vector<std::string>{"bbb", "cc", "ddd"});
}

TEST_CASE("NameList: refuses what is not sorted, or there twice") {
  CHECK_THROWS_AS(NameList(std::vector<std::string>{"b", "a"}), drystone::core::InvalidArgument);
  CHECK_THROWS_AS(NameList(std::vector<std::string>{"a", "a"}), drystone::core::InvalidArgument);
}
