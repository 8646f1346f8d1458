// What this process holds of a manager - open files and mappings - in a form that the keeper (keeper.h) can hand over to the
// next manager: in memory of its own, since the keeper may neither allocate nor take a lock.
//
// Who may look or change is decided by a gate:
//   state          | enter() (application threads)  | close() (the keeper)
//   open, n inside | n + 1 inside                   | closed; waits until nobody is inside
//   closed         | waits                          | -
// Inside nobody waits for a manager, touches a user's memory or allocates by malloc. So the keeper, which is inside
// alone from the first file it hands over to the end, sees each file and mapping either wholly there or not at all, and
// an application thread that compares manager epochs inside knows whether what it adds or drops was handed over.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "pmfs/base/mutex.h"

namespace pmfs {

struct HeldFile {
  HeldFile* next_free;
  bool used;
  uint32_t handle, flags;
  int32_t sentinel_fd;  // -1: not fetched
  uint64_t ino, generation;
};

struct HeldMap {
  HeldMap* next_free;
  bool used;
  int32_t sentinel_fd;
  uint64_t ino, generation, id, va, offset, length, prot;  // bytes; id 0: not answered yet
};

// Slots in memory that is mapped and never given back; addresses stay. Takes and drops happen inside the gate.
template <class T>
class SlotList {
 public:
  T* take(const T& value);  // Throws Error(ENOMEM)
  void drop(T* slot);
  template <class F>
  void for_each(F&& f) const {  // the keeper, or inside
    for (Chunk* c = chunks_; c != nullptr; c = c->next)
      for (T& t : c->slots)
        if (t.used) f(t);
  }

 private:
  static constexpr size_t kChunkBytes = 64 * 1024;
  struct Chunk {
    Chunk* next;
    T slots[(kChunkBytes - sizeof(void*)) / sizeof(T)];
  };
  static_assert(sizeof(Chunk) <= kChunkBytes);
  Mutex mutex_{LockRank::kLeaf, "slot list"};  // among those inside
  T* free_ = nullptr;
  Chunk* chunks_ = nullptr;
};

class Holdings {
 public:
  class Pass {
   public:
    explicit Pass(Holdings& h) : h_(h) { h_.enter(); }
    ~Pass() { h_.leave(); }
    Pass(const Pass&) = delete;
    Pass& operator=(const Pass&) = delete;

   private:
    Holdings& h_;
  };
  void enter();
  void leave();
  void close();
  void open();
  void reset_gate() { gate_.store(0); }  // in a forked child: nobody else is here

  SlotList<HeldFile> files;
  SlotList<HeldMap> maps;

 private:
  static constexpr uint32_t kClosed = 1u << 31;
  std::atomic<uint32_t> gate_{0};  // futex word: kClosed, threads inside
};

}  // namespace pmfs
