// The one error type of manager and client: an errno (what the caller of a system call would see) and a
// sentence that names the thing, the cause and the way out.
#pragma once

#include <string>
#include <system_error>

#pragma GCC visibility push(default)  // caught across the library boundary
namespace pmfs {

class Error : public std::system_error {
 public:
  Error(int err, const std::string& what) : std::system_error(err, std::generic_category(), what), message_(what) {}
  int err() const { return code().value(); }
  const std::string& message() const { return message_; }  // without strerror's text

 private:
  std::string message_;
};

}  // namespace pmfs
#pragma GCC visibility pop
