#include "pmfs/fault/pager.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "pmfs/base/error.h"
#include "pmfs/base/lock_order.h"

namespace pmfs::fault {

namespace {
constexpr size_t kBatch = 16;
constexpr uint64_t kStopId = 0;  // client ids start at 1
}  // namespace

Pagers::Pagers(FaultHandler& handler, unsigned threads)
    : handler_(handler), epoll_(::epoll_create1(EPOLL_CLOEXEC)), stop_event_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!epoll_ || !stop_event_) fail(errno, "pagers: can't create an epoll set");
  epoll_event e{EPOLLIN, {.u64 = kStopId}};
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, stop_event_.get(), &e);
  for (unsigned i = 0; i < threads; ++i) threads_.emplace_back([this] { run(); });
}

Pagers::~Pagers() {
  stop_.store(true);
  uint64_t one = 1;
  if (::write(stop_event_.get(), &one, sizeof one) < 0) {
  }  // level-triggered and never read: every pager sees it
  for (auto& t : threads_) t.join();
}

void Pagers::add(std::shared_ptr<Client> c) {
  int fd = c->uffd()->fd();
  uint64_t id = c->id;
  {
    WriterLock l(mutex_);
    clients_.emplace(id, std::move(c));
  }
  epoll_event e{EPOLLIN | EPOLLET, {.u64 = id}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &e) != 0) fail(errno, "pagers: can't watch a userfaultfd");
}

void Pagers::remove(Client& c) {
  if (c.uffd()) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, c.uffd()->fd(), nullptr);
  std::shared_ptr<Client> gone;  // released after the lock
  WriterLock l(mutex_);
  auto it = clients_.find(c.id);
  if (it == clients_.end()) return;
  gone = std::move(it->second);
  clients_.erase(it);
}

void Pagers::run() {
  while (!stop_.load()) {
    lock_order::assert_none_held("pager");
    epoll_event e;
    int n = ::epoll_wait(epoll_.get(), &e, 1, -1);
    if (n <= 0 || e.data.u64 == kStopId) continue;
    std::shared_ptr<Client> c;
    {
      ReaderLock l(mutex_);
      auto it = clients_.find(e.data.u64);
      if (it != clients_.end()) c = it->second;
    }
    if (!c) continue;
    uffd_msg m[kBatch];
    // Less than asked for: it was empty, and what comes later is a new edge.
    for (size_t got = kBatch; got == kBatch;) {
      got = c->uffd()->read(m, kBatch);
      for (size_t i = 0; i < got; ++i) handler_.handle(*c, m[i]);
    }
  }
}

}  // namespace pmfs::fault
