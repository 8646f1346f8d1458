// From the wire's structs to the API's.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "lib/session.h"
#include "pmfs/pmfs.hpp"

namespace pmfs {

Stat to_stat(const proto::WireAttr& a, const Session& session);

// All extents of a file. `call` sends a kExtents request for the file in question.
using ExtentsCall = std::function<proto::Reply(const proto::Request&, const Session::Out&)>;
std::vector<ExtentInfo> read_extents(proto::Request request, const ExtentsCall& call);

// `count` structs from the start of a bounce buffer, as many as fit.
template <class T>
std::vector<T> take_array(std::span<const std::byte> bounce, uint64_t count) {
  std::vector<T> v(std::min<uint64_t>(count, bounce.size() / sizeof(T)));
  if (!v.empty()) std::memcpy(v.data(), bounce.data(), v.size() * sizeof(T));
  return v;
}

}  // namespace pmfs
