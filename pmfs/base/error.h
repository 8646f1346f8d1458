// Throwing Error with a formatted sentence. The request dispatcher turns it into a reply.
#pragma once

#include <cerrno>
#include <string>

#include <fmt/format.h>

#include "pmfs/error.hpp"

namespace pmfs {

template <class... A>
[[noreturn]] void fail(int err, fmt::format_string<A...> f, A&&... a) {
  throw Error(err, fmt::format(f, std::forward<A>(a)...));
}

}  // namespace pmfs
