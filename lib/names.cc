// Links, attributes and extended attributes of the C++ API.
#include <algorithm>
#include <cstring>

#include "lib/session.h"
#include "lib/wire.h"
#include "pmfs/base/error.h"
#include "pmfs/pmfs.hpp"

namespace pmfs {
namespace {

proto::Request attr_request(const AttrChange& c, uint32_t handle, Follow last) {
  static_assert(AttrChange::kNow == proto::kTimeNow);
  proto::Request r = make_request(proto::Op::kSetAttr, handle);
  if (last == Follow::kNo) r.a0 |= proto::kNoFollow;
  if (c.mode) r.a0 |= proto::kAttrMode;
  if (c.uid) r.a0 |= proto::kAttrUid;
  if (c.gid) r.a0 |= proto::kAttrGid;
  if (c.atime_ns) r.a0 |= proto::kAttrAtime;
  if (c.mtime_ns) r.a0 |= proto::kAttrMtime;
  r.a1 = c.mode.value_or(0);
  r.a2 = uint64_t{c.uid.value_or(0)} | uint64_t{c.gid.value_or(0)} << 32;
  r.a3 = static_cast<uint64_t>(c.atime_ns.value_or(0));
  r.a4 = static_cast<uint64_t>(c.mtime_ns.value_or(0));
  return r;
}

// One request about an attribute of a file (path empty) or a path: [path][name][value] go to the bounce buffer.
proto::Reply xattr_call(Session& s, proto::Op op, uint32_t handle, std::string_view path, std::string_view name,
                        std::span<const std::byte> value, int flags, Follow last, const Session::Out& out = {}) {
  constexpr size_t kMaxValue = 65536;
  if (path.size() > proto::kMaxPath) fail(ENAMETOOLONG, "a path of {} bytes; at most {}", path.size(), proto::kMaxPath);
  if (path.find('\0') != path.npos) fail(EINVAL, "a path with a NUL byte");
  if (name.size() > 255) fail(ERANGE, "an attribute name of {} bytes; at most 255", name.size());
  if (value.size() > kMaxValue) fail(E2BIG, "{}: a value of {} bytes; at most {}", name, value.size(), kMaxValue);
  proto::Request r = make_request(op, handle);
  r.path1_len = static_cast<uint16_t>(path.size());
  r.a0 = name.size();
  r.a1 = value.size();
  r.a2 = static_cast<uint64_t>(static_cast<unsigned>(flags));
  r.a3 = last == Follow::kNo ? proto::kNoFollow : 0;
  std::vector<std::byte> in(path.size() + name.size() + value.size());
  std::byte* at = in.data();
  for (std::span<const std::byte> part : {std::as_bytes(std::span(path)), std::as_bytes(std::span(name)), value}) {
    if (!part.empty()) std::memcpy(at, part.data(), part.size());
    at += part.size();
  }
  return s.call(r, in, out);
}

std::vector<std::byte> xattr_bytes(Session& s, proto::Op op, uint32_t handle, std::string_view path,
                                   std::string_view name, Follow last) {
  std::vector<std::byte> out;
  xattr_call(s, op, handle, path, name, {}, 0, last, [&](const proto::Reply& reply, std::span<const std::byte> bounce) {
    const auto part = bounce.first(std::min<size_t>(reply.v0, bounce.size()));
    out.assign(part.begin(), part.end());
  });
  return out;
}

std::vector<std::string> split(const std::vector<std::byte>& list) {
  std::vector<std::string> names;
  std::string name;
  for (const std::byte b : list) {
    if (b != std::byte{0}) {
      name += static_cast<char>(b);
      continue;
    }
    names.push_back(std::move(name));
    name.clear();
  }
  return names;
}

Session& open_session(const std::shared_ptr<Session>& session) {
  if (!session) fail(EBADF, "the file is closed");
  return *session;
}

void want_path(std::string_view path) {
  if (path.empty()) fail(ENOENT, "an empty path");
}

}  // namespace

void Volume::mknod(std::string_view path, unsigned mode) {
  proto::Request r = make_request(proto::Op::kMknod);
  r.a1 = mode;
  session_->call_path(r, path);
}

void Volume::link(std::string_view from, std::string_view to, Follow last) {
  proto::Request r = make_request(proto::Op::kLink);
  r.a0 = last == Follow::kYes ? proto::kFollow : 0;
  session_->call_path(r, from, to);
}

void Volume::symlink(std::string_view target, std::string_view path) {
  session_->call_path(make_request(proto::Op::kSymlink), path, target);
}

std::string Volume::readlink(std::string_view path) {
  std::string target;
  session_->call_path(make_request(proto::Op::kReadlink), path, {},
                      [&](const proto::Reply& reply, std::span<const std::byte> bounce) {
                        target.assign(reinterpret_cast<const char*>(bounce.data()),
                                      std::min<size_t>(reply.v0, bounce.size()));
                      });
  return target;
}

void Volume::set_attr(std::string_view path, const AttrChange& change, Follow last) {
  want_path(path);
  session_->call_path(attr_request(change, 0, last), path);
}

void Volume::set_xattr(std::string_view path, std::string_view name, std::span<const std::byte> value, int flags,
                       Follow last) {
  want_path(path);
  xattr_call(*session_, proto::Op::kSetXattr, 0, path, name, value, flags, last);
}

std::vector<std::byte> Volume::get_xattr(std::string_view path, std::string_view name, Follow last) {
  want_path(path);
  return xattr_bytes(*session_, proto::Op::kGetXattr, 0, path, name, last);
}

std::vector<std::string> Volume::list_xattrs(std::string_view path, Follow last) {
  want_path(path);
  return split(xattr_bytes(*session_, proto::Op::kListXattr, 0, path, {}, last));
}

void Volume::remove_xattr(std::string_view path, std::string_view name, Follow last) {
  want_path(path);
  xattr_call(*session_, proto::Op::kRemoveXattr, 0, path, name, {}, 0, last);
}

void Volume::set_quota(QuotaKind kind, uint32_t id, uint64_t block_limit, uint64_t inode_limit) {
  proto::Request r = make_request(proto::Op::kSetQuota);
  r.a0 = static_cast<uint64_t>(kind);
  r.a1 = id;
  r.a2 = block_limit;
  r.a3 = inode_limit;
  session_->call(r);
}

void Volume::grow(uint64_t bytes) {
  proto::Request r = make_request(proto::Op::kGrow);
  r.a0 = bytes;
  session_->call(r);
}

std::vector<QuotaInfo> Volume::quotas() {
  std::vector<QuotaInfo> all;
  proto::Request r = make_request(proto::Op::kQuotas);
  for (bool more = true; more;) {
    r.a0 = all.size();
    const proto::Reply reply = session_->call(r, {}, [&](const proto::Reply& p, std::span<const std::byte> bounce) {
      for (const auto& w : take_array<proto::WireQuota>(bounce, p.v0)) {
        all.push_back({static_cast<QuotaKind>(w.kind), w.id, w.blocks, w.inodes, w.block_limit, w.inode_limit});
      }
    });
    more = reply.v1 != 0 && reply.v0 != 0;
  }
  return all;
}

void Volume::set_project(std::string_view path, const Project& p) {
  want_path(path);
  proto::Request r = make_request(proto::Op::kSetProject);
  r.a0 = p.id;
  r.a1 = p.inherit ? 1 : 0;
  session_->call_path(r, path);
}

Project Volume::project(std::string_view path) {
  want_path(path);
  const proto::Reply reply = session_->call_path(make_request(proto::Op::kProject), path);
  return {static_cast<uint32_t>(reply.v0), reply.v1 != 0};
}

void File::set_attr(const AttrChange& change) {
  open_session(session_).call(attr_request(change, handle_, Follow::kYes));
}

void File::set_xattr(std::string_view name, std::span<const std::byte> value, int flags) {
  xattr_call(open_session(session_), proto::Op::kSetXattr, handle_, {}, name, value, flags, Follow::kYes);
}

std::vector<std::byte> File::get_xattr(std::string_view name) {
  return xattr_bytes(open_session(session_), proto::Op::kGetXattr, handle_, {}, name, Follow::kYes);
}

std::vector<std::string> File::list_xattrs() {
  return split(xattr_bytes(open_session(session_), proto::Op::kListXattr, handle_, {}, {}, Follow::kYes));
}

void File::remove_xattr(std::string_view name) {
  xattr_call(open_session(session_), proto::Op::kRemoveXattr, handle_, {}, name, {}, 0, Follow::kYes);
}

}  // namespace pmfs
