#include "tools/crash/dirty_pages.h"

#include <csignal>
#include <cstdlib>

#include <sys/mman.h>
#include <unistd.h>

#include "tools/crash/line.h"

namespace pmfs::crash {
namespace {

constexpr size_t kMostTrackers = 4;
DirtyPages* g_trackers[kMostTrackers];
struct sigaction g_previous;

void on_sigsegv(int, siginfo_t* info, void*) {
  for (DirtyPages* t : g_trackers)
    if (t != nullptr && t->on_fault(info->si_addr)) return;
  // Not ours: whoever was there before decides, at the next attempt of the same instruction.
  sigaction(SIGSEGV, &g_previous, nullptr);
}

void install_handler() {
  struct sigaction now {};
  if (sigaction(SIGSEGV, nullptr, &now) == 0 && (now.sa_flags & SA_SIGINFO) != 0 && now.sa_sigaction == on_sigsegv) {
    return;
  }
  struct sigaction sa {};
  sa.sa_sigaction = on_sigsegv;
  sa.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigemptyset(&sa.sa_mask);
  sigaction(SIGSEGV, &sa, &g_previous);
}

}  // namespace

DirtyPages::DirtyPages(std::byte* base, size_t bytes) : base_(base), pages_(bytes / kPageBytes), dirty_(pages_) {
  list_.reserve(pages_);
  for (DirtyPages*& slot : g_trackers) {
    if (slot != nullptr) continue;
    slot = this;
    install_handler();
    mprotect(base_, pages_ * kPageBytes, PROT_READ);
    return;
  }
  std::abort();  // more areas than a volume has
}

DirtyPages::~DirtyPages() {
  mprotect(base_, pages_ * kPageBytes, PROT_READ | PROT_WRITE);
  for (DirtyPages*& slot : g_trackers)
    if (slot == this) slot = nullptr;
}

void DirtyPages::mark(size_t page) {
  if (dirty_[page] != 0) return;
  dirty_[page] = 1;
  list_.push_back(page);
  mprotect(base_ + page * kPageBytes, kPageBytes, PROT_READ | PROT_WRITE);
}

bool DirtyPages::on_fault(void* address) {
  auto* p = static_cast<std::byte*>(address);
  if (p < base_ || p >= base_ + pages_ * kPageBytes) return false;
  mark(static_cast<size_t>(p - base_) / kPageBytes);
  return true;
}

void DirtyPages::touch(const void* p, size_t bytes) {
  auto first = static_cast<size_t>(static_cast<const std::byte*>(p) - base_) / kPageBytes;
  auto last = (static_cast<size_t>(static_cast<const std::byte*>(p) - base_) + bytes - 1) / kPageBytes;
  for (size_t page = first; bytes > 0 && page <= last; ++page) mark(page);
}

std::vector<size_t> DirtyPages::take() {
  std::vector<size_t> out(list_.begin(), list_.end());
  for (size_t page : out) {
    dirty_[page] = 0;
    mprotect(base_ + page * kPageBytes, kPageBytes, PROT_READ);
  }
  list_.clear();
  return out;
}

}  // namespace pmfs::crash
