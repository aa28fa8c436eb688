#pragma once
// Makes files fail: the calls of this program's own code by the linker's --wrap, SQLite's by its
// table of system calls.

namespace drystone::test {

/// As long as it lives, calls that open, write, sync or move a file under a test's folder are
/// counted, and `count` of them from number `first` on fail with `error`. One at a time.
class FailingFiles {
 public:
  FailingFiles(int error, int first, int count);
  ~FailingFiles();
  FailingFiles(const FailingFiles&) = delete;
  FailingFiles& operator=(const FailingFiles&) = delete;

  int num_calls() const;
};

}  // namespace drystone::test
