#include "pmfs/server/dispatch.h"

#include <algorithm>
#include <cstring>
#include <new>

#include <fcntl.h>
#include <unistd.h>
#include <sys/mman.h>

#include "pmfs/base/error.h"
#include "pmfs/base/pause.h"

namespace pmfs::server {

using namespace proto;

namespace {

constexpr size_t kMapAheadExtents = 1024;
// What a read-only client may ask for. Nothing of it changes the volume, but that an fsync, of whomever, moves the mtime of
// what others have stored to.
bool only_reads(Op op) {
  switch (op) {
    case Op::kNop:
    case Op::kOpen:
    case Op::kReopen:
    case Op::kClose:
    case Op::kStat:
    case Op::kMap:
    case Op::kUnmap:
    case Op::kSplit:
    case Op::kProtect:
    case Op::kMapInfo:
    case Op::kForkPrepare:
    case Op::kForkCancel:
    case Op::kRead:
    case Op::kSeek:
    case Op::kExtents:
    case Op::kFsync:
    case Op::kSync:
    case Op::kReaddir:
    case Op::kReadlink:
    case Op::kGetXattr:
    case Op::kListXattr:
    case Op::kProject:
    case Op::kQuotas:
    case Op::kStatfs:
    case Op::kClients:
    case Op::kCounters:
    case Op::kFiles:
    case Op::kBlocks:
    case Op::kTrace: return true;
    default: return false;
  }
}

void may_open(const Session& s, int flags) {
  if (s.read_only && ((flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC | O_APPEND)) != 0))
    fail(EROFS, "this client is connected to read only: no file can be opened for more");
}

constexpr unsigned kMaxAsked = 1000;  // of one request, when clients keep mapping what it wants them to let go of

}  // namespace

bool Dispatcher::execute(Session& s, uint32_t slot) {
  host_.requests.add();
  Slot& shared = s.ring().slot(slot);
  Call c{s, {}, {}, {}, s.ring().bounce(slot), &shared.request};
  std::memcpy(&c.r, &shared.request, sizeof c.r);  // once: what the client does to it now doesn't matter
  int err = 0;
  std::string message;
  try {
    run(c);
  } catch (const MustWait& w) {
    auto self = s.shared_from_this();
    if (s.times_asked(slot) < kMaxAsked) {
      if (!volume_.when_idle(w.ino, [self, slot] { self->ask_again(slot); })) s.ask_again(slot);
      return false;
    }
    err = EAGAIN;
    message = "clients that map the file keep touching what they are asked to let go of";
  } catch (const Error& e) {
    err = e.err() == 0 ? EIO : e.err();
    message = e.message();
  } catch (const std::bad_alloc&) {
    err = ENOMEM;
    message = "the manager is out of memory";
  }
  s.forget_asked(slot);
  PMFS_PAUSE_POINT("request:executed");
  c.reply.err = err;
  c.reply.epoch = s.epoch();
  if (err != 0) {
    if (err == EPROTO) host_.protocol_errors.add();
    c.reply.message_len = static_cast<uint32_t>(std::min<size_t>(message.size(), 1024));
    std::memcpy(c.bounce, message.data(), c.reply.message_len);
  }
  std::memcpy(&shared.reply, &c.reply, sizeof c.reply);
  if (!c.changed || volume_.quarantine().live() == 0) return true;
  auto self = s.shared_from_this();
  return !volume_.when_idle(*c.changed, [self, slot] { self->answer(slot); });
}

void Dispatcher::run(Call& c) {
  const Request& r = c.r;
  if (r.version != kVersion) fail(EPROTO, "request version {}; this manager speaks {}", r.version, kVersion);
  if (r.flags & ~kFlagNoWait) fail(EPROTO, "unknown request flags {:#x}", r.flags);
  if (r.path1_len > kMaxPath || r.path2_len > kMaxPath) fail(ENAMETOOLONG, "path longer than {} bytes", kMaxPath);
  if (r.path2_len && !r.path1_len) fail(EPROTO, "a second path without a first");
  c.path1.assign(reinterpret_cast<const char*>(c.bounce), r.path1_len);
  c.path2.assign(reinterpret_cast<const char*>(c.bounce) + r.path1_len, r.path2_len);
  Session& s = c.session;
  if (!s.ready()) fail(EPROTO, "a request before the userfaultfd");
  if (s.read_only && !only_reads(static_cast<Op>(r.op))) fail(EROFS, "this client is connected to read only");
  switch (static_cast<Op>(r.op)) {
    case Op::kNop: return;
    case Op::kOpen: return open(c);
    case Op::kReopen: return reopen(c);
    case Op::kClose: return s.close_file(r.handle);
    case Op::kStat: return stat(c);
    case Op::kMap: return map(c);
    case Op::kUnmap: return unmap(c);
    case Op::kSplit: return split(c);
    case Op::kProtect: return protect(c);
    case Op::kSync: return sync(c);
    case Op::kRead: {
      if (r.a1 > kBounceBytes && host_.sabotage != Sabotage::kReadUnchecked)
        fail(EPROTO, "read of {} bytes; at most {} at once", r.a1, kBounceBytes);
      auto f = file(c, false);
      if (host_.sabotage == Sabotage::kReadTwice) std::memcpy(&c.r, c.shared, sizeof c.r);
      c.reply.v0 = volume_.read(*f->inode, {c.bounce, r.a1}, r.a0, c.wait());
      return;
    }
    case Op::kWrite: {
      if (r.a1 > kBounceBytes) fail(EPROTO, "write of {} bytes; at most {} at once", r.a1, kBounceBytes);
      if (r.a2 & ~kWriteAppend) fail(EPROTO, "unknown write flags {:#x}", r.a2);
      auto f = file(c, true);
      std::span<const std::byte> data(c.bounce, r.a1);
      if ((r.a2 & kWriteAppend) || (f->flags & O_APPEND)) {
        c.reply.v1 = volume_.append(*f->inode, data, c.wait());
        c.reply.v0 = r.a1;
      } else {
        c.reply.v0 = volume_.write(*f->inode, data, r.a0, c.wait());
        c.reply.v1 = r.a0;
      }
      return;
    }
    case Op::kTruncate: return volume_.truncate(*target(c, true), r.a0, c.wait(), s.id);
    case Op::kPunch: return volume_.punch(*target(c, true), r.a0, r.a1, c.wait(), s.id);
    case Op::kZeroRange: return volume_.zero_range(*target(c, true), r.a0, r.a1, c.wait(), s.id);
    case Op::kPreallocate:
      if (r.a2 > 1) fail(EPROTO, "unknown preallocate flags {:#x}", r.a2);
      return volume_.preallocate(*target(c, true), r.a0, r.a1, r.a2 == 1, c.wait());
    case Op::kCollapse: return volume_.collapse(*target(c, true), r.a0, r.a1, c.wait(), s.id);
    case Op::kInsert: return volume_.insert(*target(c, true), r.a0, r.a1, c.wait(), s.id);
    case Op::kSeek:
      if (r.a1 != SEEK_DATA && r.a1 != SEEK_HOLE) fail(EINVAL, "seek {}: only SEEK_DATA and SEEK_HOLE", r.a1);
      // A handle of any mode will do, as with lseek.
      c.reply.v0 = volume_.seek(*s.file(r.handle)->inode, r.a0,
                                r.a1 == SEEK_DATA ? MountedVolume::Seek::kData : MountedVolume::Seek::kHole);
      return;
    case Op::kCopyRange:
    case Op::kClone: return copy_range(c);
    case Op::kFsync: return volume_.fsync(*file(c, false)->inode);
    case Op::kMkdir: return volume_.mkdir(c.path1, static_cast<uint32_t>(r.a1), s.who);
    case Op::kRmdir: return volume_.rmdir(c.path1, s.who);
    case Op::kUnlink: return volume_.unlink(c.path1, s.who);
    case Op::kRename:
      if (r.a0 > meta::kRenameExchange) fail(EINVAL, "{}: rename flags {:#x} are not supported", c.path1, r.a0);
      return volume_.rename(c.path1, c.path2, static_cast<uint32_t>(r.a0), s.who);
    case Op::kReaddir: return readdir(c);
    case Op::kExtents: return extents(c);
    case Op::kStatfs: return statfs(c);
    case Op::kClients: return clients(c);
    case Op::kBlocks: return blocks(c);
    case Op::kCounters: return counters(c);
    case Op::kTrace: return trace(c);
    case Op::kFiles: return files(c);
    case Op::kForkPrepare:
      c.reply.v0 = host_.keep_fork(s.fork_image());
      return;
    case Op::kForkCancel: return host_.drop_fork(r.a0);
    case Op::kMapInfo: return map_info(c);
    case Op::kShutdown:
      require_admin(c);
      return host_.shutdown();
    case Op::kSetAttr: return set_attr(c);
    case Op::kLink: return link(c);
    case Op::kSymlink: return symlink(c);
    case Op::kReadlink: return readlink(c);
    case Op::kMknod: return volume_.mknod(c.path1, static_cast<uint32_t>(r.a1), s.who);
    case Op::kSetXattr:
    case Op::kGetXattr:
    case Op::kListXattr:
    case Op::kRemoveXattr: return xattr(c);
    case Op::kSetQuota: return set_quota(c);
    case Op::kGrow: return grow(c);
    case Op::kQuotas: return quotas(c);
    case Op::kProject:
    case Op::kSetProject: return project(c);
  }
  fail(ENOSYS, "request {}: this manager does not know it", r.op);
}

WireAttr Dispatcher::wire(const meta::InodeAttr& a) {
  return {to_u64(a.ino), a.size, a.blocks, a.generation, a.atime_ns, a.mtime_ns,
          a.ctime_ns,    a.btime_ns, a.mode, a.uid, a.gid, a.nlink};
}

std::shared_ptr<OpenFile> Dispatcher::file(Call& c, bool for_writing) {
  auto f = c.session.file(c.r.handle);
  int mode = f->flags & O_ACCMODE;
  if (for_writing ? mode == O_RDONLY : mode == O_WRONLY)
    fail(EBADF, "handle {}: is not open for {}", c.r.handle, for_writing ? "writing" : "reading");
  return f;
}

InodeRef Dispatcher::target(Call& c, bool for_writing) {
  InodeRef ref = c.path1.empty() ? file(c, for_writing)->inode
                                 : InodeRef(volume_, volume_.open(c.path1, for_writing ? O_RDWR : O_RDONLY, 0, c.session.who));
  if (for_writing) c.changed = ref->ino;
  return ref;
}

void Dispatcher::open(Call& c) {
  constexpr uint64_t kKnown = O_ACCMODE | O_CREAT | O_EXCL | O_TRUNC | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW;
  if (c.r.a0 & ~kKnown) fail(EINVAL, "{}: open flags {:#o} are not supported", c.path1, c.r.a0 & ~kKnown);
  int flags = static_cast<int>(c.r.a0);
  if ((flags & O_ACCMODE) == O_ACCMODE) fail(EINVAL, "{}: neither for reading nor for writing", c.path1);
  may_open(c.session, flags);
  InodeRef ref(volume_, volume_.open(c.path1, flags, static_cast<uint32_t>(c.r.a1), c.session.who));
  if (flags & O_TRUNC) c.changed = ref->ino;
  c.reply.attr = wire(volume_.getattr(*ref));
  c.reply.handle = c.session.add_file(std::make_shared<OpenFile>(OpenFile{std::move(ref), flags}));
}

void Dispatcher::reopen(Call& c) {
  const int flags = static_cast<int>(c.r.a2 & (O_ACCMODE | O_APPEND));
  if ((flags & O_ACCMODE) == O_ACCMODE) fail(EINVAL, "inode {}: neither for reading nor for writing", c.r.a0);
  may_open(c.session, flags);
  InodeRef ref(volume_, volume_.reattach(Ino{c.r.a0}, c.r.a1));
  c.reply.attr = wire(volume_.getattr(*ref));
  c.reply.handle = c.session.add_file(std::make_shared<OpenFile>(OpenFile{std::move(ref), flags}));
}

void Dispatcher::stat(Call& c) {
  if (c.r.a0 & ~kNoFollow) fail(EPROTO, "unknown stat flags {:#x}", c.r.a0);
  c.reply.attr = wire(c.path1.empty() ? volume_.getattr(*c.session.file(c.r.handle)->inode)
                                      : volume_.stat(c.path1, c.r.a0 & kNoFollow ? FollowLast::kNo : FollowLast::kYes));
}

void Dispatcher::map(Call& c) {
  const Request& r = c.r;
  auto f = file(c, false);
  const PageRange pages = check_map(r.a0, r.a1, r.a2, r.a3, c.session.vma_unit());
  if ((r.a3 & PROT_WRITE) && (c.session.read_only || (f->flags & O_ACCMODE) != O_RDWR))
    fail(EACCES, "map: the file is not open for reading and writing");
  Session& s = c.session;
  // The client has handed it over when the manager had died before the answer: asked again.
  if (auto same = s.reattached() ? s.client().find(r.a0) : nullptr;
      same && same->va == r.a0 && same->pages == pages && same->inode().ino == f->inode->ino) {
    c.reply.v0 = same->id;
    return;
  }
  auto m = std::make_shared<fault::Mapping>(s.next_mapping_id(), r.a0, pages, static_cast<int>(r.a3),
                                            static_cast<int32_t>(r.a4), f->inode, s.sentinel(f->inode),
                                            s.client().uffd(), s);
  f->inode->add_pte_holder(m);
  s.client().add(m);
  if (s.ended()) {  // it ended between: nobody else would take the mapping out again
    s.client().remove(m->id);
    fail(ENOTCONN, "client {}: is gone", s.id);
  }
  // What exists is mapped ahead of the first touch; of a gated client without exclusion, since a VMA is only a hint.
  const auto extents = volume_.store().extents(m->inode().ino, pages, kMapAheadExtents);
  c.reply.agent_seq = m->direct ? faults_.map_ahead(*m, extents) : m->map_ahead(extents);
  c.reply.v0 = m->id;
}

void Dispatcher::unmap(Call& c) {
  fault::Client& client = c.session.client();
  if (c.session.direct()) {
    for (auto& m : client.mappings())
      if (c.r.a0 == 0 ? m->va == c.r.a1 : m->id == c.r.a0) m->part();
  }
  // By address, whether there is one or not: a client can't always know if a former manager had made it.
  const auto m = c.r.a0 == 0 ? client.remove_at(c.r.a1) : client.remove(c.r.a0);
  if (!m && c.r.a0 != 0) fail(EINVAL, "mapping {}: there is none", c.r.a0);
  if (m && !c.session.read_only) note_stores(volume_, m->inode());
  c.reply.agent_seq = c.session.last_command();  // one of its own may still wait for room in the queue
}

void Dispatcher::split(Call& c) {
  const uint64_t address = c.r.a0;
  Session& s = c.session;
  const uint64_t unit = s.vma_unit().bytes();
  if (address % unit) fail(EINVAL, "split at {:#x}: not a multiple of {}", address, unit);
  const auto halves = s.client().split(address, s.next_mapping_id(), s.next_mapping_id());
  c.reply.v0 = halves.right->id;
  c.reply.v1 = halves.left ? halves.left->id : 0;
}

void Dispatcher::protect(Call& c) {
  const Request& r = c.r;
  if (r.a1 & ~uint64_t{PROT_READ | PROT_WRITE}) fail(EINVAL, "protect: protection {:#x} is not supported", r.a1);
  if (c.session.read_only && (r.a1 & PROT_WRITE)) fail(EACCES, "protect: this client may only read");
  auto m = c.session.client().find(r.a0);
  if (!m || m->va != r.a0) fail(ENOENT, "protect: no mapping begins at {:#x}", r.a0);
  if (r.a1 & PROT_WRITE) m->inode().stores_unseen.store(true);  // PTEs that are there become writable without a fault
  m->set_prot(static_cast<int>(r.a1));
  c.reply.agent_seq = c.session.last_command();  // those may have the old protection
}

void Dispatcher::sync(Call& c) {
  const Request& r = c.r;
  auto m = c.session.client().find(r.a0);
  if (!m || r.a1 == 0 || r.a1 > m->end_va() - r.a0) fail(ENOENT, "sync: {} bytes at {:#x} are not in a mapping", r.a1, r.a0);
  const uint64_t end = r.a0 + r.a1 - 1;
  volume_.fsync(m->inode(), {m->pgoff_at(r.a0), m->pgoff_at(end) + 1});
}

void Dispatcher::map_info(Call& c) {
  auto image = c.session.inherited();
  if (!image || c.r.a0 >= image->mappings.size()) fail(ENOENT, "no more mappings");
  std::memcpy(c.bounce, &image->mappings[c.r.a0], sizeof(WireMapping));
  c.reply.v0 = sizeof(WireMapping);
}

void Dispatcher::readdir(Call& c) {
  constexpr size_t kMost = 512;
  uint64_t n = 0, at = 0;
  for (const auto& e : volume_.list(c.path1, c.r.a0, kMost)) {
    PackedDirent d{to_u64(e.ino), e.cookie, e.mode, static_cast<uint32_t>(e.name.size())};
    uint64_t bytes = sizeof d + ((e.name.size() + 7) & ~size_t{7});
    if (at + bytes > kBounceBytes) break;
    std::memcpy(c.bounce + at, &d, sizeof d);
    std::memcpy(c.bounce + at + sizeof d, e.name.data(), e.name.size());
    at += bytes;
    ++n;
  }
  c.reply.v0 = n;
  c.reply.v1 = at;
}

void Dispatcher::copy_range(Call& c) {
  const Request& r = c.r;
  if (r.a1 > UINT32_MAX) fail(EBADF, "handle {}: there is none", r.a1);
  auto from = file(c, false);
  auto to = c.session.file(static_cast<uint32_t>(r.a1));
  if ((to->flags & O_ACCMODE) == O_RDONLY || (to->flags & O_APPEND))
    fail(EBADF, "handle {}: is not open for writing anywhere", r.a1);
  c.changed = to->inode->ino;
  if (static_cast<Op>(r.op) == Op::kClone)
    return volume_.clone_range(*from->inode, r.a0, *to->inode, r.a2, r.a3, c.wait(), c.session.id);
  c.reply.v0 = volume_.copy_range(*from->inode, r.a0, *to->inode, r.a2, r.a3, c.wait(), c.session.id);
}

void Dispatcher::extents(Call& c) {
  constexpr size_t kMost = kBounceBytes / sizeof(WireExtent);
  if (c.r.a0 > kMaxPgoff) fail(EINVAL, "page {} is beyond the largest file", c.r.a0);
  InodeRef ref = target(c, false);
  auto list = volume_.store().extents(ref->ino, {Pgoff(c.r.a0), kEndOfFile}, kMost);
  uint64_t n = 0;
  for (const auto& e : list) {
    WireExtent w{e.pgoff.v, e.pfn.v, e.count, e.unwritten ? 1u : 0u, 0};
    std::memcpy(c.bounce + n++ * sizeof w, &w, sizeof w);
  }
  c.reply.v0 = n;
  c.reply.v1 = list.size() == kMost ? list.back().end().v : ~uint64_t{0};
}

}  // namespace pmfs::server
