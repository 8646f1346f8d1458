// The shared-memory ring of one session: request slots with a bounce buffer each, and the queue of VMA commands.
// The manager creates it in a memfd sealed against shrinking; both sides map it with Boost.Interprocess.
//
// Request slot states and who moves them (a futex word each):
//   kFree -> kFilling    client thread that claims the slot (compare-and-swap)
//   kFilling -> kPending client thread, when the request is written; then rings the doorbell if the manager sleeps
//   kPending -> kRunning manager
//   kRunning -> kDone    manager, when the reply is written; then wakes the futex if kWaiting was seen
//   kDone -> kFree       client thread, when it has read the reply
// A client that breaks these rules confuses itself only: the manager trusts no word it reads here.
//
// Sleeping: the manager sets manager_sleeps = 1, looks at the slots once more, then sleeps in epoll on the doorbell
// eventfd; a client that publishes looks at manager_sleeps after publishing (seq_cst both) and writes the doorbell.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

#include "pmfs/proto/protocol.h"

namespace pmfs::proto {

inline constexpr uint32_t kSlots = 32;
inline constexpr uint32_t kAgentSlots = 128;
inline constexpr uint64_t kBounceBytes = 256 * 1024;

enum SlotState : uint32_t { kFree = 0, kFilling = 1, kPending = 2, kRunning = 3, kDone = 4 };
inline constexpr uint32_t kWaitingBit = 0x100;  // or-ed by a client thread that sleeps on the word

struct alignas(64) Slot {
  std::atomic<uint32_t> state;
  uint32_t reserved;
  Request request;
  alignas(64) Reply reply;
};

struct RingHeader {
  uint32_t magic;
  uint16_t version;
  uint16_t reserved;
  uint32_t slots, agent_slots;
  uint64_t bounce_bytes;
  alignas(64) std::atomic<uint32_t> manager_sleeps;
  std::atomic<uint32_t> closed;  // manager: the session is over, every wait ends with ENOTCONN
  alignas(64) std::atomic<uint64_t> agent_posted;  // manager: seq of the newest command in the queue; futex = low half
  std::atomic<uint32_t> agent_sleeps;              // agent: about to futex-wait
  alignas(64) std::atomic<uint64_t> agent_done;    // agent: seq of the last executed command
  std::atomic<uint32_t> agent_waiters;             // client threads waiting for agent_done
};

struct RingLayout {  // offsets in the memfd
  static constexpr uint64_t kSlotsOffset = 4096;
  static constexpr uint64_t kAgentOffset = kSlotsOffset + ((sizeof(Slot) * kSlots + 4095) & ~uint64_t{4095});
  static constexpr uint64_t kBounceOffset = kAgentOffset + ((sizeof(AgentCommand) * kAgentSlots + 4095) & ~uint64_t{4095});
  static constexpr uint64_t kBytes = kBounceOffset + kBounceBytes * kSlots;
};
static_assert(sizeof(RingHeader) <= RingLayout::kSlotsOffset);
static_assert(std::atomic<uint64_t>::is_always_lock_free && std::atomic<uint32_t>::is_always_lock_free);

// One mapping of the ring. Does not own the fd.
class Ring {
 public:
  static int create_memfd();              // sealed, sized, header written; the caller owns the fd. Throws Error.
  explicit Ring(int memfd);               // maps; throws Error(EPROTO) if the header is not ours
  ~Ring();
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  // Inline, as the worker that spins goes through all slots between two pauses.
  RingHeader& header() const { return *std::launder(reinterpret_cast<RingHeader*>(base_)); }
  Slot& slot(uint32_t i) const {  // i < kSlots
    return *std::launder(reinterpret_cast<Slot*>(base_ + RingLayout::kSlotsOffset + i * sizeof(Slot)));
  }
  std::byte* bounce(uint32_t i) const { return base_ + RingLayout::kBounceOffset + i * kBounceBytes; }  // kBounceBytes
  AgentCommand& agent_slot(uint64_t seq) const {  // seq % kAgentSlots
    return *std::launder(reinterpret_cast<AgentCommand*>(base_ + RingLayout::kAgentOffset + seq % kAgentSlots * sizeof(AgentCommand)));
  }
  void* base() const { return base_; }  // RingLayout::kBytes, for MADV_DONTFORK

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
  std::byte* base_ = nullptr;
};

// Shared futexes (not FUTEX_PRIVATE). Raw system calls: usable by the agent thread.
void futex_wake(std::atomic<uint32_t>* word, int count);
// Returns when woken, when *word != expected, on a signal, or after timeout_ns (< 0: none).
void futex_wait(std::atomic<uint32_t>* word, uint32_t expected, int64_t timeout_ns);

}  // namespace pmfs::proto
