// Volume of the C++ API.
#include <cstring>

#include "lib/fork.h"
#include "lib/session.h"
#include "lib/wire.h"
#include "pmfs/base/error.h"
#include "pmfs/pmfs.hpp"

namespace pmfs {
namespace {

std::string uuid_text(const uint8_t (&u)[16]) {
  std::string s;
  for (int i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) s += '-';
    s += fmt::format("{:02x}", u[i]);
  }
  return s;
}

template <size_t N>
std::string text(const char (&field)[N]) {
  return std::string(field, strnlen(field, N));
}

}  // namespace

Stat to_stat(const proto::WireAttr& a, const Session& session) {
  return {a.ino, a.size, a.blocks, a.generation, a.atime_ns, a.mtime_ns, a.ctime_ns, a.btime_ns,
          a.mode, a.uid, a.gid, a.nlink, session.hello().block_size};
}

std::vector<ExtentInfo> read_extents(proto::Request request, const ExtentsCall& call) {
  std::vector<ExtentInfo> all;
  for (request.a0 = 0;;) {
    std::vector<proto::WireExtent> part;
    const proto::Reply reply = call(request, [&](const proto::Reply& r, std::span<const std::byte> bounce) {
      part = take_array<proto::WireExtent>(bounce, r.v0);
    });
    for (const auto& e : part) all.push_back({e.pgoff, e.pfn, e.count, e.unwritten != 0});
    if (reply.v1 == ~uint64_t{0} || reply.v1 <= request.a0) return all;
    request.a0 = reply.v1;
  }
}

Volume::Volume(const std::string& path) : Volume(path, Access::kReadWrite) {}

Volume::Volume(const std::string& path, Access access) : session_(Session::connect(path, access)) {}

File Volume::open(std::string_view path, int flags, unsigned mode) {
  ForkGate::Pass pass;
  proto::Request r = make_request(proto::Op::kOpen);
  r.a0 = static_cast<uint64_t>(static_cast<unsigned>(flags));
  r.a1 = mode;
  const proto::Reply reply = session_->call_path(r, path);
  File f;
  f.handle_ = session_->note_open(reply, flags);
  f.session_ = session_;
  f.flags_ = flags;
  return f;
}

File Volume::open_inode(uint64_t ino, uint64_t generation, int flags) {
  ForkGate::Pass pass;
  proto::Request r = make_request(proto::Op::kReopen);
  r.a0 = ino;
  r.a1 = generation;
  r.a2 = static_cast<uint64_t>(static_cast<unsigned>(flags));
  File f;
  f.handle_ = session_->note_open(session_->call(r), flags);
  f.session_ = session_;
  f.flags_ = flags;
  return f;
}

Stat Volume::stat(std::string_view path, Follow last) {
  proto::Request r = make_request(proto::Op::kStat);
  r.a0 = last == Follow::kNo ? proto::kNoFollow : 0;
  return to_stat(session_->call_path(r, path).attr, *session_);
}

void Volume::mkdir(std::string_view path, unsigned mode) {
  proto::Request r = make_request(proto::Op::kMkdir);
  r.a1 = mode;
  session_->call_path(r, path);
}

void Volume::rmdir(std::string_view path) { session_->call_path(make_request(proto::Op::kRmdir), path); }

void Volume::unlink(std::string_view path) { session_->call_path(make_request(proto::Op::kUnlink), path); }

void Volume::rename(std::string_view from, std::string_view to, unsigned flags) {
  proto::Request r = make_request(proto::Op::kRename);
  r.a0 = flags;
  session_->call_path(r, from, to);
}

std::vector<Dirent> Volume::list(std::string_view path) {
  std::vector<Dirent> all;
  proto::Request r = make_request(proto::Op::kReaddir);
  for (;;) {
    uint64_t next = r.a0;
    session_->call_path(r, path, {}, [&](const proto::Reply& reply, std::span<const std::byte> bounce) {
      size_t at = 0;
      for (uint64_t i = 0; i < reply.v0; ++i) {
        proto::PackedDirent d;
        if (bounce.size() - at < sizeof d) break;
        std::memcpy(&d, bounce.data() + at, sizeof d);
        at += sizeof d;
        if (bounce.size() - at < d.name_len) break;
        std::string name(reinterpret_cast<const char*>(bounce.data() + at), d.name_len);
        at += std::min<size_t>((d.name_len + size_t{7}) & ~size_t{7}, bounce.size() - at);
        next = d.cookie;
        if (name != "." && name != "..") all.push_back({std::move(name), d.ino, d.mode});
      }
    });
    if (next == r.a0) return all;
    r.a0 = next;
  }
}

void Volume::truncate(std::string_view path, uint64_t size) {
  proto::Request r = make_request(proto::Op::kTruncate);
  r.a0 = size;
  session_->call_path(r, path);
}

void Volume::punch(std::string_view path, uint64_t offset, uint64_t length) {
  proto::Request r = make_request(proto::Op::kPunch);
  r.a0 = offset;
  r.a1 = length;
  session_->call_path(r, path);
}

std::vector<ExtentInfo> Volume::extents(std::string_view path) {
  return read_extents(make_request(proto::Op::kExtents), [&](const proto::Request& q, const Session::Out& out) {
    return session_->call_path(q, path, {}, out);
  });
}

StatFs Volume::statfs() {
  proto::WireStatfs w{};
  session_->call(make_request(proto::Op::kStatfs), {}, [&](const proto::Reply&, std::span<const std::byte> bounce) {
    std::memcpy(&w, bounce.data(), sizeof w);
  });
  return {w.block_size, w.blocks_total, w.blocks_used, w.blocks_free, w.blocks_reserved, w.blocks_deferred,
          w.blocks_zero, w.inodes_used, w.meta_bytes_total, w.meta_bytes_used, w.mount_epoch, w.clients,
          uuid_text(w.uuid), text(w.region_kind), text(w.granularity), text(w.exclusion), w.sparse != 0,
          static_cast<int>(w.pid), w.unit_bytes};
}

std::vector<ClientInfo> Volume::clients() {
  std::vector<ClientInfo> all;
  session_->call(make_request(proto::Op::kClients), {}, [&](const proto::Reply& r, std::span<const std::byte> bounce) {
    for (const auto& w : take_array<proto::WireClient>(bounce, r.v0)) {
      all.push_back({w.id, w.mappings, w.mapped_bytes, w.handles, w.faults, w.installs, w.agent_queue, w.pid, w.uid,
                     (w.state & proto::kClientReady) != 0, (w.state & proto::kClientReadOnly) != 0, w.revokes, w.revoke_age_ns});
    }
  });
  return all;
}

}  // namespace pmfs
