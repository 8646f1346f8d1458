// File and Mapping of the C++ API.
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "lib/fork.h"
#include "lib/mapping.h"
#include "lib/pieces.h"
#include "lib/session.h"
#include "lib/wire.h"
#include "pmfs/base/error.h"
#include "pmfs/pmfs.hpp"

namespace pmfs {
namespace {

proto::Request file_request(const std::shared_ptr<Session>& session, proto::Op op, uint32_t handle,
                            bool no_wait = false) {
  if (!session) fail(EBADF, "the file is closed");
  proto::Request r = make_request(op, handle);
  if (no_wait) r.flags |= proto::kFlagNoWait;
  return r;
}

void call_with_range(const std::shared_ptr<Session>& session, proto::Op op, uint32_t handle, uint64_t offset,
                     uint64_t length, bool no_wait) {
  proto::Request r = file_request(session, op, handle, no_wait);
  r.a0 = offset;
  r.a1 = length;
  session->call(r);
}

}  // namespace

// --- Mapping

Mapping::Mapping(Mapping&& o) noexcept
    : data_(std::exchange(o.data_, nullptr)), size_(std::exchange(o.size_, 0)), session_(std::move(o.session_)) {}

Mapping& Mapping::operator=(Mapping&& o) noexcept {
  if (this != &o) {
    Mapping old(std::move(*this));
    data_ = std::exchange(o.data_, nullptr);
    size_ = std::exchange(o.size_, 0);
    session_ = std::move(o.session_);
  }
  return *this;
}

Mapping::~Mapping() {
  try {
    unmap();
  } catch (const Error&) {  // stays mapped
  }
}

void Mapping::unmap() {
  const auto session = std::move(session_);
  std::byte* p = std::exchange(data_, nullptr);
  const size_t n = std::exchange(size_, 0);
  if (p != nullptr) unmap_range(p, n);
}

std::byte* Mapping::release() {
  session_.reset();
  size_ = 0;
  return std::exchange(data_, nullptr);
}

// --- File

File::File(File&& o) noexcept
    : session_(std::move(o.session_)), handle_(std::exchange(o.handle_, 0)), flags_(std::exchange(o.flags_, 0)) {}

File& File::operator=(File&& o) noexcept {
  if (this != &o) {
    File old(std::move(*this));
    session_ = std::move(o.session_);
    handle_ = std::exchange(o.handle_, 0);
    flags_ = std::exchange(o.flags_, 0);
  }
  return *this;
}

File::~File() {
  try {
    close();
  } catch (const Error&) {  // the manager is gone and has forgotten the handle, or will
  }
}

void File::close() {
  const auto session = std::move(session_);
  const uint32_t handle = std::exchange(handle_, 0);
  if (!session) return;
  ForkGate::Pass pass;
  session->note_close(handle);
  session->call(make_request(proto::Op::kClose, handle));
}

Mapping File::map(uint64_t offset, size_t length, int prot) { return map_at(nullptr, 0, offset, length, prot); }

Mapping File::map_at(void* addr, int flags, uint64_t offset, size_t length, int prot) {
  if (!session_) fail(EBADF, "the file is closed");
  MapOptions o{prot, (flags_ & O_ACCMODE) == O_RDWR, {Place::kAnywhere, static_cast<std::byte*>(addr)}};
  if ((flags & MAP_FIXED_NOREPLACE) != 0) {
    o.place.kind = Place::kFree;
  } else if ((flags & MAP_FIXED) != 0) {
    o.place.kind = Place::kReplace;
    check_place(*session_, offset, length, o.place);
    release_range(addr, length);
  } else if (flags != 0) {
    fail(EINVAL, "map_at: flags {:#x}", flags);
  }
  Mapping m;
  m.data_ = map_file(session_, handle_, offset, length, o);
  m.size_ = length;
  m.session_ = session_;
  return m;
}

size_t File::read(std::span<std::byte> out, uint64_t offset, bool no_wait) {
  proto::Request r = file_request(session_, proto::Op::kRead, handle_, no_wait);
  size_t done = 0;
  while (done < out.size()) {
    const size_t want = std::min<size_t>(out.size() - done, proto::kBounceBytes);
    r.a0 = offset + done;
    r.a1 = want;
    size_t got = 0;
    session_->call(r, {}, [&](const proto::Reply& reply, std::span<const std::byte> bounce) {
      got = std::min<size_t>(reply.v0, want);
      std::memcpy(out.data() + done, bounce.data(), got);
    });
    done += got;
    if (got < want) break;
  }
  return done;
}

size_t File::write(std::span<const std::byte> in, uint64_t offset, bool no_wait) {
  proto::Request r = file_request(session_, proto::Op::kWrite, handle_, no_wait);
  size_t done = 0;
  while (done < in.size()) {
    const auto chunk = in.subspan(done, std::min<size_t>(in.size() - done, proto::kBounceBytes));
    r.a0 = offset + done;
    r.a1 = chunk.size();
    size_t put = 0;
    try {
      put = std::min<size_t>(session_->call(r, chunk).v0, chunk.size());
    } catch (const Error&) {
      if (done == 0) throw;
      break;  // as write(2): what was written counts, the next call meets the error
    }
    done += put;
    if (put < chunk.size()) break;
  }
  return done;
}

uint64_t File::append(std::span<const std::byte> in) {
  proto::Request r = file_request(session_, proto::Op::kWrite, handle_);
  r.a2 = proto::kWriteAppend;
  uint64_t first = 0;
  size_t done = 0;
  do {
    const auto chunk = in.subspan(done, std::min<size_t>(in.size() - done, proto::kBounceBytes));
    r.a1 = chunk.size();
    const proto::Reply reply = session_->call(r, chunk);
    if (done == 0) first = reply.v1;
    if (reply.v0 == 0 && !chunk.empty()) fail(EIO, "nothing was appended");
    done += std::min<size_t>(reply.v0, chunk.size());
  } while (done < in.size());
  return first;
}

void File::truncate(uint64_t size, bool no_wait) {
  proto::Request r = file_request(session_, proto::Op::kTruncate, handle_, no_wait);
  r.a0 = size;
  session_->call(r);
}

void File::punch(uint64_t offset, uint64_t length, bool no_wait) {
  call_with_range(session_, proto::Op::kPunch, handle_, offset, length, no_wait);
}

void File::zero_range(uint64_t offset, uint64_t length, bool no_wait) {
  call_with_range(session_, proto::Op::kZeroRange, handle_, offset, length, no_wait);
}

void File::preallocate(uint64_t offset, uint64_t length, bool keep_size) {
  proto::Request r = file_request(session_, proto::Op::kPreallocate, handle_);
  r.a0 = offset;
  r.a1 = length;
  r.a2 = keep_size ? 1 : 0;
  session_->call(r);
}

void File::collapse(uint64_t offset, uint64_t length, bool no_wait) {
  call_with_range(session_, proto::Op::kCollapse, handle_, offset, length, no_wait);
}

void File::insert(uint64_t offset, uint64_t length, bool no_wait) {
  call_with_range(session_, proto::Op::kInsert, handle_, offset, length, no_wait);
}

uint64_t File::seek_data(uint64_t offset) {
  proto::Request r = file_request(session_, proto::Op::kSeek, handle_);
  r.a0 = offset;
  r.a1 = SEEK_DATA;
  return session_->call(r).v0;
}

uint64_t File::seek_hole(uint64_t offset) {
  proto::Request r = file_request(session_, proto::Op::kSeek, handle_);
  r.a0 = offset;
  r.a1 = SEEK_HOLE;
  return session_->call(r).v0;
}

void File::clone_to(uint64_t offset, File& to, uint64_t to_offset, uint64_t length) {
  proto::Request r = file_request(session_, proto::Op::kClone, handle_);
  if (!to.session_) fail(EBADF, "the target is closed");
  if (to.session_ != session_) fail(EXDEV, "the target is of another connection; copy instead");
  r.a0 = offset;
  r.a1 = to.handle_;
  r.a2 = to_offset;
  r.a3 = length;
  session_->call(r);
}

uint64_t File::copy_to(uint64_t offset, File& to, uint64_t to_offset, uint64_t length) {
  proto::Request r = file_request(session_, proto::Op::kCopyRange, handle_);
  if (!to.session_) fail(EBADF, "the target of the copy is closed");
  if (to.session_ != session_) fail(EXDEV, "the target of the copy is of another connection; read and write instead");
  r.a1 = to.handle_;
  uint64_t done = 0;
  while (done < length) {
    r.a0 = offset + done;
    r.a2 = to_offset + done;
    r.a3 = length - done;
    uint64_t n = 0;
    try {
      n = session_->call(r).v0;
    } catch (const Error&) {
      if (done == 0) throw;
      break;
    }
    if (n == 0) break;
    done += n;
  }
  return done;
}

void File::fsync() {
  const proto::Request r = file_request(session_, proto::Op::kFsync, handle_);
  session_->call(r);
}

Stat File::stat() {
  const proto::Request r = file_request(session_, proto::Op::kStat, handle_);
  return to_stat(session_->call(r).attr, *session_);
}

std::vector<ExtentInfo> File::extents() {
  const proto::Request r = file_request(session_, proto::Op::kExtents, handle_);
  return read_extents(r, [&](const proto::Request& q, const Session::Out& out) { return session_->call(q, {}, out); });
}

}  // namespace pmfs
