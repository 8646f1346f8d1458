// RequestLoop: the threads that take the kernel's requests, and in which order they do.
//
// One thread at a time, the reader, waits for requests; the others sleep. The reader executes what is short by itself and
// reads on; before anything that may take long, or where requests pile up, it makes another one the reader. After a request
// it looks for the next one for a moment before it falls asleep: most come in trains from one program, which then need not
// wake anybody here. How long is adaptive, as for the workers of native clients (server/workers.cc). (Tried and slower: the
// reader asleep on the processor of the thread that asks, as fault/pager.h does it.) In a train who asked is woken sooner, too
// (halt_poll.h).
//
//   thread  | reads a short request | reads another one, or will_block() | many were there at once | is told to stop
//   reader  | executes, reads on    | -> busy, wakes another             | -> busy, wakes another  | ends, wakes another
//   busy    | -                     | -                                  | -                       | finishes, ends
//   waiting | -> reader, when it is woken and there is none                                         | ends
//
// mutex_ (LockRank::kLeaf): nothing is called with it held.
#pragma once

#include <sys/uio.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

#include "pmfs/base/mutex.h"
#include "pmfs/base/unique_fd.h"
#include "pmfs/fuse/halt_poll.h"

struct fuse_session;

namespace pmfs::fuse {

class RequestLoop {
 public:
  // Throws Error, as HaltPoll does.
  explicit RequestLoop(HaltPollWhen halt_poll) : halt_poll_(halt_poll) {}
  // The session is mounted. `on_end`: called once, by one of the threads, when the file system is unmounted.
  void start(fuse_session* session, unsigned threads, std::function<void()> on_end);
  // Waits for what is being executed. After start(), before the session is unmounted.
  void stop();
  RequestLoop(const RequestLoop&) = delete;
  RequestLoop& operator=(const RequestLoop&) = delete;

  // To be called in a request, before what may take long or wait for another operation.
  void will_block();

  // For libfuse: the session's userdata leads here.
  ssize_t read(int fd, void* buffer, size_t bytes);
  ssize_t write(int fd, iovec* parts, int count);

 private:
  void run();
  bool become_reader();
  bool nobody_waits();
  void stop_reading();

  fuse_session* session_ = nullptr;
  std::function<void()> on_end_;
  UniqueFd impatient_;   // the same connection, and a read returns at once; none where /dev/fuse can't be opened
  bool spin_ = false;    // not on one processor
  int64_t spin_ns_ = 0;  // the reader's, as the next two
  HaltPoll halt_poll_;   // the reader's
  unsigned at_once_ = 0;  // so many requests in a row were there already
  std::atomic<int64_t> last_answer_ns_{0};
  std::atomic<bool> stop_{false};
  std::atomic<unsigned> running_{0};
  Mutex mutex_{LockRank::kLeaf, "fuse reader"};
  CondVar no_reader_;
  bool reader_ GUARDED_BY(mutex_) = false;
  unsigned waiting_ GUARDED_BY(mutex_) = 0;  // to be the reader
  std::vector<std::thread> threads_;
};

}  // namespace pmfs::fuse
