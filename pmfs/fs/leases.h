// Leases: what a mount may let the kernel believe without asking again: names and attributes, for a moment at a time, as
// long as nobody but that mount changes files. A native client, or a second mount, is an outsider: it is let in when
// nothing is believed any more, and nothing is leased until the last of them has been gone for a while.
//
//   state   | entered when              | grant()                  | an outsider comes | the last one leaves
//   open    | one mount, nobody else    | granted                  | -> closing        | -
//   closing | first outsider            | refused                  | waits for closed  | cannot: it is not in yet
//   closed  | the leases have run out   | refused; -> open if      | is in at once     | kQuietNs from now grant() may
//           |                           | alone for kQuietNs       |                   | open it
//
// Why nobody believes anything old: an answer reads what it says, and is given to the kernel, inside of a Grant. Who closes
// first refuses new ones, then waits for those under way (each stores, then reads what the other stores: both sequentially
// consistent), then has the mount take its attributes back, then waits until the last name has run out. What is changed
// later was asked for later. The kernel counts a lease from when the thread that asked runs again; kSlackNs is for that.
//
// mutex_ (LockRank::kLeaf): nothing is called and nobody sleeps with it held.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>
#include <vector>

#include "pmfs/base/mutex.h"

namespace pmfs {

struct LeaseOptions {
  int64_t lease_ns = 50'000'000;
  bool wait = true;  // for what is believed to be over. Off only to see a test fail.
};

class Leases {
 public:
  static constexpr int64_t kSlackNs = 100'000'000;    // from an answer to the thread that asked
  static constexpr int64_t kQuietNs = 1'000'000'000;  // scripts of many short clients wait once

  explicit Leases(const LeaseOptions& o) : options_(o) {}

  // A mount.
  class Holder {
   public:
    virtual ~Holder() = default;
    // Makes the kernel forget attributes that were leased. Waits for no request; any thread, no lock held.
    virtual void take_back() = 0;
  };
  // A second mount is an outsider to the first, and the first to it. No lock held.
  void add(Holder& h);
  void remove(Holder& h);

  class Outsider {
   public:
    Outsider() = default;
    Outsider(Outsider&& o) noexcept : leases_(std::exchange(o.leases_, nullptr)) {}
    Outsider& operator=(Outsider&& o) noexcept {
      std::swap(leases_, o.leases_);
      return *this;
    }
    ~Outsider() {
      if (leases_ != nullptr) leases_->leave();
    }

   private:
    friend class Leases;
    explicit Outsider(Leases* l) : leases_(l) {}
    Leases* leases_ = nullptr;
  };
  // Returns when the kernel believes nothing: at most a lease and kSlackNs later. No lock held.
  Outsider enter();

  // Around reading and answering. False: what is answered is true for now only.
  class Grant {
   public:
    explicit Grant(Leases& l) : leases_(l.begin() ? &l : nullptr) {}
    Grant(const Grant&) = delete;
    Grant& operator=(const Grant&) = delete;
    ~Grant() {
      if (leases_ != nullptr) leases_->end();
    }
    explicit operator bool() const { return leases_ != nullptr; }
    double seconds() const { return leases_ != nullptr ? static_cast<double>(leases_->options_.lease_ns) / 1e9 : 0; }

   private:
    Leases* leases_;
  };

  bool open() const { return open_.load(); }

 private:
  bool begin();
  void end();
  void leave();
  void close();  // closing -> closed
  void reopen(int64_t now_ns);

  const LeaseOptions options_;
  std::atomic<bool> open_{false};
  std::atomic<uint64_t> under_way_{0};
  std::atomic<int64_t> last_answer_ns_{0};
  std::atomic<int64_t> quiet_until_ns_{0};  // INT64_MAX: not while things are as they are

  Mutex mutex_{LockRank::kLeaf, "leases"};
  CondVar closed_;
  bool closing_ GUARDED_BY(mutex_) = false;
  uint64_t outsiders_ GUARDED_BY(mutex_) = 0;
  std::vector<Holder*> holders_ GUARDED_BY(mutex_);
};

}  // namespace pmfs
