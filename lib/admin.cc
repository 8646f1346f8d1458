#include "lib/admin.h"

#include <algorithm>

#include "lib/wire.h"
#include "pmfs/base/error.h"

namespace pmfs::admin {

std::vector<proto::WireBlock> blocks(Session& session, std::span<const uint64_t> pfns) {
  constexpr size_t kChunk = proto::kBounceBytes / sizeof(proto::WireBlock);  // the answer is larger than the question
  std::vector<proto::WireBlock> all;
  all.reserve(pfns.size());
  for (size_t at = 0; at < pfns.size(); at += kChunk) {
    const auto part = pfns.subspan(at, std::min(kChunk, pfns.size() - at));
    proto::Request r = make_request(proto::Op::kBlocks);
    r.a0 = part.size();
    session.call(r, std::as_bytes(part), [&](const proto::Reply&, std::span<const std::byte> bounce) {
      const auto got = take_array<proto::WireBlock>(bounce, part.size());
      all.insert(all.end(), got.begin(), got.end());
    });
  }
  return all;
}

proto::WireCounters counters(Session& session) {
  proto::WireCounters c{};
  session.call(make_request(proto::Op::kCounters), {}, [&](const proto::Reply&, std::span<const std::byte> bounce) {
    std::memcpy(&c, bounce.data(), sizeof c);
  });
  return c;
}

std::vector<proto::WireFile> files(Session& session, size_t most) {
  std::vector<proto::WireFile> all;
  proto::Request r = make_request(proto::Op::kFiles);
  r.a0 = most;
  session.call(r, {}, [&](const proto::Reply& reply, std::span<const std::byte> bounce) {
    all = take_array<proto::WireFile>(bounce, std::min<uint64_t>(reply.v0, most));
  });
  return all;
}

std::string trace(Session& session, uint64_t pfn) {
  std::string text;
  proto::Request r = make_request(proto::Op::kTrace);
  r.a0 = pfn;
  session.call(r, {}, [&](const proto::Reply& reply, std::span<const std::byte> bounce) {
    text.assign(reinterpret_cast<const char*>(bounce.data()), std::min<size_t>(reply.v0, bounce.size()));
  });
  return text;
}

void shutdown(Session& session) { session.call(make_request(proto::Op::kShutdown)); }

}  // namespace pmfs::admin
