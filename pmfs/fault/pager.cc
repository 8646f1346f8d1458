#include "pmfs/fault/pager.h"

#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <exception>

#include "pmfs/base/error.h"
#include "pmfs/base/lock_order.h"

namespace pmfs::fault {

namespace {
constexpr size_t kBatch = 16, kBatchesInTurn = 8;
constexpr uint64_t kStopId = 0;  // client ids start at 1
constexpr int kNice = -10;       // needs CAP_SYS_NICE; without it pagers are as everybody

UniqueFd make_epoll(int stop_event) {
  UniqueFd fd(::epoll_create1(EPOLL_CLOEXEC));
  epoll_event e{EPOLLIN, {.u64 = kStopId}};
  if (!fd || ::epoll_ctl(fd.get(), EPOLL_CTL_ADD, stop_event, &e) != 0) fail(errno, "pagers: can't create an epoll set");
  return fd;
}
}  // namespace

Pagers::Pagers(FaultHandler& handler, unsigned threads)
    : handler_(handler), stop_event_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!stop_event_) fail(errno, "pagers: can't create an eventfd");
  epoll_ = make_epoll(stop_event_.get());
  for (unsigned i = 0; i < threads; ++i) threads_.emplace_back([this] { run(epoll_.get(), Client::kNoLane); });
}

Pagers::~Pagers() {
  stop_.store(true);
  uint64_t one = 1;
  if (::write(stop_event_.get(), &one, sizeof one) < 0) {
  }  // level-triggered and never read: every pager sees it
  for (auto& t : threads_) t.join();
  std::map<int, Lane> lanes;  // a lane may be about to take the mutex
  {
    WriterLock l(mutex_);
    lanes.swap(lanes_);
  }
  for (auto& [processor, lane] : lanes) lane.thread.join();
}

void Pagers::watch(int epoll, const Client& c) {
  epoll_event e{EPOLLIN | EPOLLET, {.u64 = c.id}};
  if (::epoll_ctl(epoll, EPOLL_CTL_ADD, c.uffd()->fd(), &e) != 0) fail(errno, "pagers: can't watch a userfaultfd");
}

void Pagers::add(std::shared_ptr<Client> c) {
  Client& client = *c;
  {
    WriterLock l(mutex_);
    clients_.emplace(client.id, std::move(c));
  }
  watch(epoll_.get(), client);
}

void Pagers::remove(Client& c) {
  std::shared_ptr<Client> gone;  // released after the lock
  WriterLock l(mutex_);
  auto it = clients_.find(c.id);
  if (it == clients_.end()) return;
  if (c.uffd()) ::epoll_ctl(epoll_of(c.lane.load()), EPOLL_CTL_DEL, c.uffd()->fd(), nullptr);
  gone = std::move(it->second);
  clients_.erase(it);
}

int Pagers::epoll_of(int lane) {
  if (lane == Client::kNoLane) return epoll_.get();
  auto it = lanes_.find(lane);
  if (it == lanes_.end()) {
    UniqueFd fd = make_epoll(stop_event_.get());
    const int epoll = fd.get();
    it = lanes_.try_emplace(lane, Lane{std::move(fd), std::thread([this, epoll, lane] { run(epoll, lane); })}).first;
  }
  return it->second.epoll.get();
}

// First into the new set, then out of the old: in between it is in both, which costs a pager a look.
void Pagers::move(Client& c, int lane) {
  WriterLock l(mutex_);
  const int from = c.lane.load();
  if (from == lane || clients_.find(c.id) == clients_.end() || stop_.load()) return;
  try {
    watch(epoll_of(lane), c);
  } catch (const std::exception&) {
    return;  // stays where it is served
  }
  ::epoll_ctl(epoll_of(from), EPOLL_CTL_DEL, c.uffd()->fd(), nullptr);
  c.lane.store(lane);
}

void Pagers::follow(Client& c) {
  if (c.lane.load() != Client::kNoLane && c.stream.cold()) {
    move(c, Client::kNoLane);
  } else if (c.stream.look()) {
    const int processor = processor_of(c.stream.tid());
    if (processor >= 0) move(c, processor);
  }
}

void Pagers::serve(const std::shared_ptr<Client>& c, int epoll) {
  uffd_msg m[kBatch];
  size_t got = kBatch;
  // Less than asked for: it was empty, and what comes later is a new edge.
  for (size_t batch = 0; got == kBatch && batch < kBatchesInTurn; ++batch) {
    got = c->uffd()->read(m, kBatch);
    for (size_t i = 0; i < got; ++i) {
      handler_.handle(*c, m[i]);
      if (m[i].event == UFFD_EVENT_PAGEFAULT) c->stream.fault(m[i].arg.pagefault.feat.ptid);
    }
  }
  follow(*c);
  if (got < kBatch) return;
  // There may be more: behind the others who wait. If it is not in this set any more, another has seen that there is.
  epoll_event e{EPOLLIN | EPOLLET, {.u64 = c->id}};
  ::epoll_ctl(epoll, EPOLL_CTL_MOD, c->uffd()->fd(), &e);
}

void Pagers::run(int epoll, int processor) {
  // A client's thread sleeps until its fault is answered: before any other work of the manager, where that is allowed.
  ::setpriority(PRIO_PROCESS, static_cast<id_t>(::syscall(SYS_gettid)), kNice);
  if (processor != Client::kNoLane) {
    cpu_set_t* one = CPU_ALLOC(static_cast<size_t>(processor) + 1);
    const size_t bytes = CPU_ALLOC_SIZE(static_cast<size_t>(processor) + 1);
    CPU_ZERO_S(bytes, one);
    CPU_SET_S(static_cast<size_t>(processor), bytes, one);
    ::sched_setaffinity(0, bytes, one);  // not one of ours to run on: a pager like the others
    CPU_FREE(one);
  }
  while (!stop_.load()) {
    lock_order::assert_none_held("pager");
    epoll_event e;
    int n = ::epoll_wait(epoll, &e, 1, -1);
    if (n <= 0 || e.data.u64 == kStopId) continue;
    std::shared_ptr<Client> c;
    {
      ReaderLock l(mutex_);
      auto it = clients_.find(e.data.u64);
      if (it != clients_.end()) c = it->second;
    }
    if (c) serve(c, epoll);
  }
}

}  // namespace pmfs::fault
