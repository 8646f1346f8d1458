#include "lib/mapping.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <vector>

#include "lib/fork.h"
#include "lib/mapping_table.h"
#include "lib/memory_calls.h"
#include "lib/session.h"
#include "pmfs/base/error.h"

namespace pmfs {
namespace {

constexpr uint64_t kHugeBytes = kHugeBlocks * kBlockSize;

constexpr int kReserved = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

std::byte* reserve_at(std::byte* at, size_t length, int how) {
  void* p = kernel::mmap(at, length, PROT_NONE, kReserved | how, -1, 0);
  if (p == MAP_FAILED) return nullptr;
  if (p != at) kernel::munmap(p, length);  // a kernel that takes NOREPLACE for a hint
  return p == at ? at : nullptr;
}

// Address space for [offset, offset+length): where the caller wants it, or congruent with the offset modulo 2 MiB so that
// huge entries fit.
std::byte* reserve(uint64_t offset, size_t length, size_t align, const Place& place) {
  std::byte* at = nullptr;
  switch (place.kind) {
    case Place::kAnywhere:
      if (place.at != nullptr && reinterpret_cast<uintptr_t>(place.at) % align == 0)
        at = reserve_at(place.at, length, MAP_FIXED_NOREPLACE);
      if (at != nullptr) return at;
      break;
    case Place::kFree:
      at = reserve_at(place.at, length, MAP_FIXED_NOREPLACE);
      if (at == nullptr) fail(errno == ENOMEM || errno == EPERM ? errno : EEXIST, "{} bytes at {} are not free", length, static_cast<void*>(place.at));
      return at;
    case Place::kReplace:
      at = reserve_at(place.at, length, MAP_FIXED);
      if (at == nullptr) fail(errno, "can't map {} bytes at {}", length, static_cast<void*>(place.at));
      return at;
  }
  const size_t total = length + kHugeBytes;
  void* p = kernel::mmap(nullptr, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) fail(errno, "no address space for a mapping of {} bytes", length);
  const auto base = reinterpret_cast<uintptr_t>(p);
  const size_t before = (offset - base) % kHugeBytes;
  if (before != 0) kernel::munmap(p, before);
  if (before != kHugeBytes) kernel::munmap(reinterpret_cast<void*>(base + before + length), kHugeBytes - before);
  return reinterpret_cast<std::byte*>(base + before);
}

// Puts the sentinel over a reserved range. Nobody else knows the address yet, so registering afterwards is fine.
void place_sentinel(const Session& session, const Record& r, int prot) {
  // Offsets beyond what a memfd can have make mmap fail with EOVERFLOW; the manager has refused those before.
  void* p = kernel::mmap(r.addr, r.length, prot, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, r.sentinel->fd.get(),
                 static_cast<off_t>(r.offset));
  if (p == MAP_FAILED) fail(errno, "can't map {} bytes; too many mappings (vm.max_map_count)?", r.length);
  if (kernel::madvise(r.addr, r.length, MADV_DONTFORK) != 0) fail(errno, "can't keep a mapping from child processes");
  uffdio_register reg{};
  reg.range.start = reinterpret_cast<uintptr_t>(r.addr);
  reg.range.len = r.length;
  reg.mode = sentinel_mode(session.hello());
  if (ioctl(session.uffd(), UFFDIO_REGISTER, &reg) != 0) fail(errno, "can't register a mapping for its faults");
}

uint64_t tell_manager(Session& session, uint32_t handle, const Record& r) {
  proto::Request q = make_request(proto::Op::kMap, handle);
  q.a0 = reinterpret_cast<uintptr_t>(r.addr);
  q.a1 = r.offset;
  q.a2 = r.length;
  q.a3 = static_cast<uint64_t>(r.prot);
  q.a4 = static_cast<uint64_t>(r.sentinel->fd.get());
  return session.call(q).v0;
}

// A thread that touched the range while no manager was there to answer waits for one that will not know the range.
void wake(const Session& session, const Record& r) {
  uffdio_range range{reinterpret_cast<uintptr_t>(r.addr), r.length};
  ioctl(session.uffd(), UFFDIO_WAKE, &range);
}

void keep_for_ever(Record&& r) {
  static auto* kept = new std::vector<Record>;
  MutexLock l(table().mutex);
  kept->push_back(std::move(r));
}

}  // namespace

Table& table() {
  static Table* t = new Table;  // never destroyed: mappings may outlive static destruction
  return *t;
}

HeldMap* hold(Session& session, const Record& r) {
  return session.holdings().maps.take({nullptr, true, r.sentinel->fd.get(), r.sentinel->ino, r.sentinel->generation, 0,
                                       reinterpret_cast<uintptr_t>(r.addr), r.offset, r.length,
                                       static_cast<uint64_t>(r.prot)});
}

void untell_manager(Session& session, const Record& r) {
  for (;;) {
    proto::Request q = make_request(proto::Op::kUnmap);
    q.a1 = reinterpret_cast<uintptr_t>(r.addr);
    const uint32_t told = session.closed() ? session.epoch() : session.call(q).epoch;
    Holdings::Pass pass(session.holdings());
    if (!session.closed() && session.epoch() != told) continue;  // it died, and the next one knows the mapping
    session.holdings().maps.drop(r.held);
    return;
  }
}

void drop(Session& session, const Record& r) {
  Holdings::Pass inside(session.holdings());
  session.holdings().maps.drop(r.held);
}

void end_mapping(Record&& r, void (*then)(const Record&)) {
  try {
    untell_manager(*r.session, r);
  } catch (const Error&) {
    // A session that is over forgets its mappings by itself.
    if (!r.session->closed()) {
      MutexLock l(table().mutex);
      table().by_addr[r.addr] = std::move(r);
      throw;
    }
    drop(*r.session, r);
  }
  // A command that was posted before the unmap must not be executed on an address that is somebody else's by then.
  // If the agent is stuck (only with a dead manager), the range stays ours for ever.
  if (!r.session->drain_agent()) return keep_for_ever(std::move(r));
  then(r);
  wake(*r.session, r);
}

// Throws Error(EINVAL) for what can't be mapped there because mappings are made of whole units.
void check_place(const Session& session, uint64_t offset, size_t length, const Place& place) {
  const size_t align = session.map_align();
  const bool fixed = place.kind != Place::kAnywhere;
  if (fixed && reinterpret_cast<uintptr_t>(place.at) % align != 0) fail(EINVAL, "can't map at {}: not a multiple of {}", static_cast<void*>(place.at), align);
  if (offset % align != 0) fail(EINVAL, "can't map {} bytes at offset {}: the offset must be a multiple of {}", length, offset, align);
  if (fixed && round_up(length) % align != 0)  // the rest of the unit may be somebody else's
    fail(EINVAL, "can't map {} bytes at {}: at a given address the length must be a multiple of {}", length, static_cast<void*>(place.at), align);
}

std::byte* map_file(const std::shared_ptr<Session>& session, uint32_t handle, uint64_t offset, size_t length,
                    const MapOptions& o) {
  const size_t align = session->map_align();
  if (length == 0) fail(EINVAL, "can't map 0 bytes");
  check_place(*session, offset, length, o.place);
  if (offset > kMaxFileBytes || length > (uint64_t{1} << 46) || round_up(length, align) > kMaxFileBytes - offset + 1) {
    fail(EOVERFLOW, "can't map {} bytes at offset {}: beyond the largest file", length, offset);
  }
  if ((o.prot & ~(PROT_READ | PROT_WRITE)) != 0) {
    fail(EACCES, "can't map with protection {:#x}: only loads and stores", o.prot);
  }
  ForkGate::Pass pass;
  Record r{nullptr, round_up(length, align), offset, o.prot, o.may_write, true, round_up(length), true, nullptr, session, session->sentinel(handle)};
  r.addr = reserve(offset, r.length, align, o.place);
  // An address that others may know is not to be touched before the manager knows of it.
  const bool known = o.place.kind == Place::kReplace;
  try {
    Holdings::Pass inside(session->holdings());
    place_sentinel(*session, r, known ? PROT_NONE : r.prot);
    r.held = hold(*session, r);
  } catch (...) {
    kernel::munmap(r.addr, r.length);
    throw;
  }
  // From here on it is handed over if the manager dies, whether it has heard of it or not.
  try {
    const uint64_t id = tell_manager(*session, handle, r);
    Holdings::Pass inside(session->holdings());
    r.held->id = id;
  } catch (const Error& e) {
    const Error refused = e;
    try {
      untell_manager(*session, r);
    } catch (const Error&) {  // the address stays ours, as if mapped: a manager to come may know of it
      keep_for_ever(std::move(r));
      throw refused;
    }
    if (session->drain_agent()) kernel::munmap(r.addr, r.length);
    throw refused;
  }
  {
    MutexLock l(table().mutex);
    table().by_addr[r.addr] = r;
  }
  if (known) kernel::mprotect(r.addr, r.length, r.prot);  // the agent's VMAs, if it has placed some, have it already
  return r.addr;
}

void reserve_inherited_ranges() NO_THREAD_SAFETY_ANALYSIS {
  for (auto& [addr, r] : table().by_addr) {
    // Null: an earlier fork handler took the address.
    if (r.placed) r.placed = r.fork && reserve_at(r.addr, r.length, MAP_FIXED_NOREPLACE) != nullptr;
  }
  // Nothing is the child's until it is restored. (In a child the gate is nobody's.)
  for (auto& [addr, r] : table().by_addr) {
    if (r.held != nullptr) r.session->holdings().maps.drop(r.held);
    r.held = nullptr;
  }
  for (auto& [addr, r] : table().by_addr) {  // the parent's; reset once per shared object
    if (r.sentinel) r.sentinel->fd.reset();
  }
  std::erase_if(table().by_addr, [](const auto& e) { return !e.second.fork; });
}

std::vector<uint32_t> restore_mappings(Session& session) NO_THREAD_SAFETY_ANALYSIS {
  std::vector<proto::WireMapping> wire;
  for (;;) {
    proto::Request q = make_request(proto::Op::kMapInfo);
    q.a0 = wire.size();
    proto::WireMapping m{};
    try {
      session.call(q, {}, [&](const auto&, std::span<const std::byte> b) { std::memcpy(&m, b.data(), sizeof m); });
    } catch (const Error& e) {
      if (e.err() != ENOENT) throw;
      break;
    }
    wire.push_back(m);
  }
  std::vector<uint32_t> handles;
  for (const proto::WireMapping& m : wire) {
    handles.push_back(m.handle);
    const auto it = table().by_addr.find(reinterpret_cast<const std::byte*>(m.va));
    if (it == table().by_addr.end() || !it->second.placed || it->second.session.get() != &session) continue;
    Record& r = it->second;
    if (r.length != m.length || r.offset != m.offset) continue;
    try {
      if (!r.sentinel->fd) r.sentinel->fd = session.fetch_sentinel(m.handle);
      {
        Holdings::Pass inside(session.holdings());
        place_sentinel(session, r, r.prot);
        r.held = hold(session, r);
      }
      const uint64_t id = tell_manager(session, m.handle, r);
      Holdings::Pass inside(session.holdings());
      r.held->id = id;
    } catch (const Error&) {
      // Back to an inaccessible range: a fault there must not be answered with zeros.
      if (r.held != nullptr) drop(session, r);
      r.held = nullptr;
      if (session.drain_agent()) {
        kernel::mmap(r.addr, r.length, PROT_NONE, kReserved | MAP_FIXED, -1, 0);
      }
    }
  }
  std::sort(handles.begin(), handles.end());
  handles.erase(std::unique(handles.begin(), handles.end()), handles.end());
  return handles;
}

bool all_restored(const Session& session) NO_THREAD_SAFETY_ANALYSIS {
  for (auto& [addr, r] : table().by_addr)
    if (r.session.get() == &session && r.placed && r.held == nullptr) return false;
  return true;
}

void name_mappings(Session& session, const std::function<UniqueFd(proto::ReattachMap&)>& tell) NO_THREAD_SAFETY_ANALYSIS {
  for (auto& [addr, r] : table().by_addr) {
    if (r.session.get() != &session || !r.placed) continue;
    // The number first: it is what the manager's commands will name.
    if (!r.sentinel->fd) r.sentinel->fd.reset(open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (!r.sentinel->fd) fail(errno, "no descriptor for a file's sentinel");
    proto::ReattachMap m{};
    m.ino = r.sentinel->ino;
    m.generation = r.sentinel->generation;
    m.va = reinterpret_cast<uintptr_t>(r.addr);
    m.offset = r.offset;
    m.length = r.length;
    m.prot = static_cast<uint64_t>(r.prot);
    m.sentinel_fd = r.sentinel->fd.get();
    const UniqueFd fd = tell(m);
    if (!fd) continue;
    if (dup3(fd.get(), r.sentinel->fd.get(), O_CLOEXEC) < 0) fail(errno, "no descriptor for a file's sentinel");
    Holdings::Pass inside(session.holdings());
    r.held = hold(session, r);
  }
}

void disown_mappings(Session& session) NO_THREAD_SAFETY_ANALYSIS {
  for (auto& [addr, r] : table().by_addr) {
    if (r.session.get() != &session || !r.placed) continue;
    kernel::mmap(r.addr, r.length, PROT_NONE, kReserved | MAP_FIXED, -1, 0);
    if (r.held != nullptr) drop(session, r);
    r.held = nullptr;
    r.sentinel->fd.reset();
  }
}

}  // namespace pmfs
