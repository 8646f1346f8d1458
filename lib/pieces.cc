#include "lib/pieces.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <vector>

#include "lib/fork.h"
#include "lib/mapping.h"
#include "lib/mapping_table.h"
#include "lib/memory_calls.h"
#include "pmfs/base/error.h"

namespace pmfs {
namespace {

struct Range {
  const std::byte *first, *end;
};

Range range_of(const void* addr, size_t length) {
  const auto at = reinterpret_cast<uintptr_t>(addr);
  if (at % kBlockSize != 0 || length == 0 || length > UINTPTR_MAX - kBlockSize - at) {
    fail(EINVAL, "{} bytes at {} are no range of pages", length, addr);
  }
  const auto* first = static_cast<const std::byte*>(addr);
  return {first, first + round_up(length)};
}

// Copies of the mappings that overlap the range, by address.
std::vector<Record> overlapping(const Range& r) {
  std::vector<Record> found;
  MutexLock l(table().mutex);
  auto it = table().by_addr.upper_bound(r.first);
  if (it != table().by_addr.begin() && std::prev(it)->second.end() > r.first) --it;
  for (; it != table().by_addr.end() && it->first < r.end; ++it) found.push_back(it->second);
  return found;
}

// f on the table's record that begins at `addr`, if there is one.
template <class F>
void change(const std::byte* addr, F&& f) {
  MutexLock l(table().mutex);
  const auto it = table().by_addr.find(addr);
  if (it != table().by_addr.end()) f(it->second);
}

// A request about a mapping. False: there is no manager any more, or it has lost the mapping (its file is gone). When it
// returns, `then(reply)` has run inside the gate, and whoever is manager by then has heard of it.
template <class F>
bool tell(Session& session, const proto::Request& q, F&& then) {
  for (;;) {
    proto::Reply reply{};
    bool heard = !session.closed();
    try {
      if (heard) reply = session.call(q);
    } catch (const Error& e) {
      if (e.err() != ENOENT && !session.closed()) throw;
      heard = false;
    }
    Holdings::Pass inside(session.holdings());
    if (heard && !session.closed() && session.epoch() != reply.epoch) continue;
    then(reply);
    return heard;
  }
}

// A mapping becomes two at `at`. Table::shape is held.
void split(const Record& whole, const std::byte* at) {
  Record right = whole;
  const auto left_bytes = static_cast<size_t>(at - whole.addr);
  right.addr += left_bytes;
  right.length -= left_bytes;
  right.asked -= left_bytes;
  right.offset += left_bytes;
  if (whole.placed && whole.held != nullptr) {
    proto::Request q = make_request(proto::Op::kSplit);
    q.a0 = reinterpret_cast<uintptr_t>(at);
    tell(*whole.session, q, [&](const proto::Reply& reply) {
      right.held = hold(*whole.session, right);  // throws before anything has changed
      right.held->id = reply.v0;
      whole.held->length = left_bytes;
      whole.held->id = reply.v1;
    });
  }
  MutexLock l(table().mutex);
  table().by_addr[whole.addr].length = left_bytes;
  table().by_addr[whole.addr].asked = left_bytes;
  table().by_addr[right.addr] = right;
}

// The range, and where it ends in a mapping's last page or behind it, the rest of that mapping's last unit. Throws Error(EINVAL): it
// would cut a mapping inside of a unit. Nothing has changed then.
Range whole_units(Range r) {
  const auto inside = [](const Record& m, const std::byte* at) { return static_cast<size_t>(at - m.addr) % m.session->map_align() != 0; };
  for (const Record& m : overlapping(r)) {
    const bool to_end = r.end >= m.addr + m.asked;
    if ((m.addr < r.first && inside(m, r.first)) || (!to_end && inside(m, r.end)))
      fail(EINVAL, "{} bytes at {}: mappings of this volume can only be cut at multiples of {}", static_cast<size_t>(r.end - r.first),
           static_cast<const void*>(r.first), m.session->map_align());
    if (to_end && r.end < m.end()) r.end = m.end();
  }
  return r;
}

// The mappings of the range, each wholly inside it. Table::shape is held.
std::vector<Record> cut_out(const Range& asked) {
  const Range r = whole_units(asked);
  for (const Record& m : overlapping(r))
    if (m.addr < r.first) split(m, r.first);
  for (const Record& m : overlapping(r))
    if (m.end() > r.end) split(m, r.end);
  return overlapping(r);
}

void end_mappings(const Range& r, void (*then)(const Record&)) {
  for (Record& m : cut_out(r)) {
    {
      MutexLock l(table().mutex);
      table().by_addr.erase(m.addr);
    }
    if (m.placed) end_mapping(std::move(m), then);
  }
}

void give_back(const Record& r) { kernel::munmap(r.addr, r.length); }

void make_inaccessible(const Record& r) {
  kernel::mmap(r.addr, r.length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}

}  // namespace

OpenByInode::OpenByInode(const std::shared_ptr<Session>& session, uint64_t ino, uint64_t generation, int flags)
    : session_(session) {
  proto::Request q = make_request(proto::Op::kReopen);
  q.a0 = ino;
  q.a1 = generation;
  q.a2 = static_cast<uint64_t>(static_cast<unsigned>(flags));
  handle_ = session->note_open(session->call(q), flags);
}

OpenByInode::~OpenByInode() {
  session_->note_close(handle_);
  try {
    session_->call(make_request(proto::Op::kClose, handle_));
  } catch (const Error&) {  // no manager: the next one is not told of it
  }
}

bool any_mapped(const void* addr, size_t length) { return !overlapping(range_of(addr, length)).empty(); }

void unmap_range(const void* addr, size_t length) {
  const Range r = range_of(addr, length);
  ForkGate::Pass pass;
  MutexLock shape(table().shape);
  end_mappings(r, give_back);
}

void release_range(const void* addr, size_t length) {
  const Range r = range_of(addr, length);
  ForkGate::Pass pass;
  MutexLock shape(table().shape);
  end_mappings(r, make_inaccessible);
}

void protect_range(const void* addr, size_t length, int prot) {
  const Range r = range_of(addr, length);
  ForkGate::Pass pass;
  MutexLock shape(table().shape);
  const auto before = overlapping(r);
  if (!before.empty() && (prot & ~(PROT_READ | PROT_WRITE)) != 0) {
    fail(EACCES, "{} bytes at {}: mapped files can't have protection {:#x}", length, addr, prot);
  }
  for (const Record& m : before) {
    if ((prot & PROT_WRITE) != 0 && !m.may_write) {
      fail(EACCES, "{} bytes at {}: the file was not open for reading and writing", length, addr);
    }
  }
  for (const Record& m : cut_out(r)) {
    if (m.prot != prot && m.placed && m.held != nullptr) {
      proto::Request q = make_request(proto::Op::kProtect);
      q.a0 = reinterpret_cast<uintptr_t>(m.addr);
      q.a1 = static_cast<uint64_t>(prot);
      tell(*m.session, q, [&](const proto::Reply&) { m.held->prot = static_cast<uint64_t>(prot); });
    }
    change(m.addr, [&](Record& now) { now.prot = prot; });
    // Commands with the former protection have been executed: the reply has waited for them.
    if (m.placed && kernel::mprotect(m.addr, m.length, prot) != 0) fail(errno, "{} bytes at {} can't be protected", length, addr);
  }
}

void sync_range(const void* addr, size_t length) {
  const Range r = range_of(addr, length);
  constexpr int kAttempts = 100;  // mappings may be cut by others while we ask
  for (int attempt = 0;; ++attempt) {
    try {
      for (const Record& m : overlapping(r)) {
        const std::byte *first = std::max<const std::byte*>(m.addr, r.first), *end = std::min<const std::byte*>(m.end(), r.end);
        proto::Request q = make_request(proto::Op::kSync);
        q.a0 = reinterpret_cast<uintptr_t>(first);
        q.a1 = static_cast<uint64_t>(end - first);
        if (m.placed) m.session->call(q);
      }
      return;
    } catch (const Error& e) {
      if (e.err() != ENOENT || attempt == kAttempts) throw;
    }
  }
}

void punch_range(const void* addr, size_t length) {
  const Range r = range_of(addr, length);
  ForkGate::Pass pass;
  for (const Record& m : overlapping(r)) {
    if (!m.may_write) fail(EACCES, "{} bytes at {}: the file was not open for writing", length, addr);
    const std::byte *first = std::max<const std::byte*>(m.addr, r.first), *end = std::min<const std::byte*>(m.end(), r.end);
    const OpenByInode file(m.session, m.sentinel->ino, m.sentinel->generation, O_RDWR);
    proto::Request q = make_request(proto::Op::kPunch, file.handle());
    q.a0 = m.offset + static_cast<uint64_t>(first - m.addr);
    q.a1 = static_cast<uint64_t>(end - first);
    m.session->call(q);
  }
}

void set_fork(const void* addr, size_t length, bool yes) {
  const Range r = range_of(addr, length);
  ForkGate::Pass pass;
  MutexLock shape(table().shape);
  for (const Record& m : cut_out(r)) change(m.addr, [&](Record& now) { now.fork = yes; });
}

void* remap_range(void* old, size_t old_length, size_t new_length, int flags, void* new_addr) {
  const Range asked = range_of(old, std::max<size_t>(old_length, 1));
  const bool fixed = (flags & MREMAP_FIXED) != 0, may_move = (flags & MREMAP_MAYMOVE) != 0;
  if ((flags & ~(MREMAP_FIXED | MREMAP_MAYMOVE)) != 0 || new_length == 0 || (!may_move && (fixed || old_length == 0))) {
    fail(EINVAL, "mremap flags {:#x} to {} bytes: not of a mapped file", flags, new_length);
  }
  const Range target = fixed ? range_of(new_addr, new_length) : Range{};
  if (fixed && target.first < asked.end && asked.first < target.end) fail(EINVAL, "mremap: old and new range overlap");
  old_length = old_length == 0 ? 0 : round_up(old_length);
  new_length = round_up(new_length);
  ForkGate::Pass pass;
  const std::vector<Record> all = overlapping(asked);
  const std::byte* next = asked.first;
  for (const Record& m : all) {
    const Record& first = all.front();
    if (m.addr > next || !m.placed || m.prot != first.prot || m.sentinel != first.sentinel ||
        m.offset - first.offset != static_cast<uint64_t>(m.addr - first.addr)) {
      break;
    }
    next = m.end();
  }
  if (all.empty() || next < asked.end) fail(EFAULT, "mremap: {} bytes at {} are not one mapping of a file", old_length, old);
  const Record& m = all.front();
  const uint64_t offset = m.offset + static_cast<uint64_t>(asked.first - m.addr);
  if (!fixed && old_length != 0 && new_length <= old_length) {
    if (new_length < old_length) unmap_range(asked.first + new_length, old_length - new_length);
    return old;
  }
  const OpenByInode file(m.session, m.sentinel->ino, m.sentinel->generation, m.may_write ? O_RDWR : O_RDONLY);
  MapOptions o{m.prot, m.may_write, {}};
  if (!fixed && old_length != 0) {
    try {
      o.place = {Place::kFree, static_cast<std::byte*>(old) + old_length};
      map_file(m.session, file.handle(), offset + old_length, new_length - old_length, o);
      return old;
    } catch (const Error& e) {
      if (e.err() != EEXIST && !(e.err() == EINVAL && may_move)) throw;  // EINVAL: it ends inside of a unit
      if (!may_move) fail(ENOMEM, "mremap: no room for {} bytes behind {}", new_length, old);
    }
  }
  o.place = {};
  if (fixed) {
    o.place = {Place::kReplace, static_cast<std::byte*>(new_addr)};
    check_place(*m.session, offset, new_length, o.place);
    release_range(new_addr, new_length);
  }
  std::byte* at = map_file(m.session, file.handle(), offset, new_length, o);
  if (old_length != 0) unmap_range(old, old_length);
  return at;
}

}  // namespace pmfs
