// Session: a client whose manager has died hands over what it has.
//
//   hello with its ring -> userfaultfd -> its open files and mappings, by inode number and generation -> done
//
// Nothing it says is believed that could harm anybody but itself: the ring must be a sealed memfd of the right size, a file
// must still be the one of that generation, a mapping is checked as in kMap. It gets no more by this than by opening and
// mapping the files afresh. What VMAs and PTEs it has nobody knows, so each mapping begins as one that is being put back
// (Mapping::Origin::kTakenOver).
//
// What of the requests in its ring? They are exactly as the manager that died has left them:
//   kPending   nobody has begun it: it is executed as any other
//   kRunning   it may have happened, or not, or (a write) in part. If it only looks, or once more does no harm, the answer
//              is ERESTART: the library asks again (the bounce buffer may be half an answer, so we can't). Else it is
//              EOWNERDEAD: only the caller can find out what came of it
//   kDone      it was answered

#include <cstring>

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/vfs.h>

#include "pmfs/base/error.h"
#include "pmfs/base/pause.h"
#include "pmfs/server/session.h"

namespace pmfs::server {

using namespace proto;

namespace {

constexpr uint64_t kMaxVa = uint64_t{1} << 47;

bool may_repeat(const Request& r) {
  switch (static_cast<Op>(r.op)) {
    case Op::kNop:
    case Op::kClose:
    case Op::kStat:
    case Op::kMap:
    case Op::kUnmap:
    case Op::kRead:
    case Op::kFsync:
    case Op::kReaddir:
    case Op::kExtents:
    case Op::kStatfs:
    case Op::kClients:
    case Op::kBlocks:
    case Op::kCounters:
    case Op::kFiles:
    case Op::kTrace:
    case Op::kForkPrepare:
    case Op::kMapInfo:
    case Op::kReadlink:
    case Op::kGetXattr:
    case Op::kListXattr:
    case Op::kSeek:
    case Op::kQuotas:
    case Op::kProject:
    case Op::kSplit:
    case Op::kProtect:
    case Op::kSync:
    case Op::kReopen: return true;
    case Op::kOpen: return (r.a0 & (O_TRUNC | O_EXCL)) == 0;
    default: return false;
  }
}

}  // namespace

PageRange check_map(uint64_t va, uint64_t offset, uint64_t length, uint64_t prot, Unit unit) {
  if (va == 0 || va % unit.bytes() || offset % unit.bytes() || length % unit.bytes())
    fail(EINVAL, "map: address {:#x}, offset {} and length {} must be multiples of {}", va, offset, length, unit.bytes());
  if (length == 0 || va >= kMaxVa || length > kMaxVa - va) fail(EINVAL, "map: {} bytes at {:#x}", length, va);
  if (offset > kMaxFileBytes || length > kMaxFileBytes - offset)
    fail(EOVERFLOW, "map: offset {} + length {} is beyond the largest file", offset, length);
  if (prot & ~uint64_t{PROT_READ | PROT_WRITE}) fail(EINVAL, "map: protection {:#x} is not supported", prot);
  return {pgoff_of(offset), pgoff_of(offset) + (length >> kBlockShift)};
}

// Ring's constructor looks at size and seals; a file of huge pages could pass that and raise SIGBUS later.
void Session::take_ring(UniqueFd fd) {
  struct statfs fs;
  if (::fstatfs(fd.get(), &fs) != 0 || fs.f_type != TMPFS_MAGIC) fail(EPROTO, "the ring is not a memfd of plain pages");
  ring_ = std::make_unique<Ring>(fd.get());
  ring_fd_ = std::move(fd);
  // The agent executes what the former manager has posted; our commands are numbered behind those.
  MutexLock l(agent_mutex_);
  done_ = posted_ = next_seq_ = ring_->header().agent_posted.load();
}

void Session::reattach_file(const ControlMessage& m) {
  auto r = m.as<ReattachFile>(Control::kReattachFile);
  if (!r || !ready() || !reattaching()) fail(EPROTO, "a file handed over out of turn");
  const int flags = static_cast<int>(r->flags) & (O_ACCMODE | O_APPEND);
  if ((flags & O_ACCMODE) == O_ACCMODE || r->handle == 0) fail(EINVAL, "handle {}: no file can be open so", r->handle);
  if (read_only && flags != O_RDONLY) fail(EROFS, "handle {}: this client may only read", r->handle);
  PMFS_PAUSE_POINT("reattach:file");
  auto put = [&](InodeRef inode) {
    MutexLock l(files_mutex_);
    if (!files_.emplace(r->handle, std::make_shared<OpenFile>(OpenFile{std::move(inode), flags})).second)
      fail(EINVAL, "handle {}: is handed over twice", r->handle);
  };
  InodeRef inode;
  try {
    inode = InodeRef(volume_, volume_.reattach(Ino{r->ino}, r->generation));
  } catch (const Error& e) {
    if (e.err() == ESTALE) put({});
    throw;
  }
  put(inode);
  std::shared_ptr<fault::Sentinel> s;
  if (r->want_sentinel != 0) s = sentinel(inode);
  const int fds[] = {s ? s->fd() : -1};
  const int err = s ? send_message(socket(), Control::kSentinelFd, r->h.seq, ControlHeader{}, fds)
                    : send_message(socket(), Control::kOk, r->h.seq);
  if (err != 0) fail(err, "client {}: can't be answered", id);
}

void Session::reattach_map(const ControlMessage& m) {
  auto r = m.as<ReattachMap>(Control::kReattachMap);
  if (!r || !ready() || !reattaching()) fail(EPROTO, "a mapping handed over out of turn");
  const PageRange pages = check_map(r->va, r->offset, r->length, r->prot, vma_unit());
  if (read_only && (r->prot & PROT_WRITE)) fail(EACCES, "map: this client may only read");
  PMFS_PAUSE_POINT("reattach:map");
  InodeRef inode(volume_, volume_.reattach(Ino{r->ino}, r->generation));
  auto s = sentinel(inode);
  auto mapping = std::make_shared<fault::Mapping>(r->id != 0 ? r->id : next_mapping_id(), r->va, pages,
                                                  static_cast<int>(r->prot), r->sentinel_fd, inode, s, client_.uffd(), *this,
                                                  fault::Mapping::Origin::kTakenOver);
  inode->add_pte_holder(mapping);
  if (r->prot & PROT_WRITE) inode->stores_unseen.store(true);
  client_.add(mapping);
  const int fds[] = {s->fd()};
  if (int err = send_message(socket(), Control::kSentinelFd, r->h.seq, ControlHeader{}, fds))
    fail(err, "client {}: can't be answered", id);
}

void Session::reattach_done(const ControlMessage& m) {
  if (!ready() || !reattaching() || !m.as<ControlHeader>(Control::kReattachDone)) fail(EPROTO, "a hand-over that ends out of turn");
  PMFS_PAUSE_POINT("reattach:done");
  const std::shared_ptr<const void> interrupted = answer_interrupted();
  client_.reattaching.store(false);
  // It is a stranger until it has our answer; from then on its own answers are waited for.
  auto waits = volume_.strangers_keep();
  waits.push_back(interrupted);
  auto keep = std::make_shared<const std::vector<std::shared_ptr<const void>>>(std::move(waits));
  for (auto& mapping : client_.mappings()) mapping->put_back(direct() ? keep : nullptr);
  if (int err = send_message(socket(), Control::kOk, m.header().seq)) fail(err, "client {}: can't be answered", id);
}

// Before the workers look at the ring: what is kRunning now was taken by the manager that died. A direct client may still have
// mapped what that had taken away: it is told of the interruption when what is returned goes, with the answers to its put-backs.
std::shared_ptr<const void> Session::answer_interrupted() {
  std::vector<uint32_t> later;
  static constexpr char kText[] =
      "the manager died while it executed this; it may have happened or not: look, and do it again if need be";
  for (uint32_t i = 0; i < kSlots; ++i) {
    Slot& slot = ring_->slot(i);
    if ((slot.state.load() & ~kWaitingBit) != kRunning) continue;
    Request r;
    std::memcpy(&r, &slot.request, sizeof r);
    Reply reply{};
    reply.err = may_repeat(r) ? ERESTART : EOWNERDEAD;
    reply.epoch = epoch_;
    reply.message_len = sizeof kText - 1;
    std::memcpy(ring_->bounce(i), kText, sizeof kText - 1);
    std::memcpy(&slot.reply, &reply, sizeof reply);
    if (reply.err == EOWNERDEAD && direct()) later.push_back(i);
    else answer(i);
  }
  if (later.empty()) return nullptr;
  auto self = shared_from_this();
  return volume_.quarantine().begin(Ino{}, [self, later] {
    for (uint32_t i : later) self->answer(i);
  });
}

}  // namespace pmfs::server
