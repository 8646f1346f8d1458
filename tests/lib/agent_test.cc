// The agent thread: order, results, the queue's end, and a reply that waits for it.
#include <sys/mman.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <fstream>
#include <sstream>

#include "lib/session.h"
#include "tests/lib/fake_manager.h"

using namespace pmfs;
using namespace pmfs::proto;
using test::FakeManager;

namespace {

constexpr uint64_t kPage = 4096;

// The file offset of what is mapped at va, and the name of the file.
std::pair<uint64_t, std::string> mapped_at(uint64_t va) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    std::istringstream in(line);
    uint64_t first, end, offset;
    char dash;
    std::string perms, dev, inode, name;
    in >> std::hex >> first >> dash >> end >> perms >> offset >> dev >> inode >> name;
    if (first <= va && va < end) return {offset + (va - first), name};
  }
  return {0, ""};
}

uint64_t reserve(size_t bytes) {
  void* p = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  REQUIRE(p != MAP_FAILED);
  return reinterpret_cast<uint64_t>(p);
}

}  // namespace

TEST_CASE("commands are executed in order, many more than the queue holds") {
  FakeManager m([](const Request&, std::byte*, Reply&) { return true; });
  const auto s = Session::connect(m.path());
  const uint64_t va = reserve(16 * kPage);
  uint64_t last = 0;
  for (uint64_t i = 0; i < 1000; ++i) {
    last = m.post(AgentOp::kMapRegion, va + i % 16 * kPage, kPage, (i % 100) * kPage, PROT_READ | PROT_WRITE);
  }
  m.wait_agent(last);
  CHECK(m.ring().header().agent_done == 1000);
  for (uint64_t i = 1000 - kAgentSlots; i < 1000; ++i) CHECK(m.ring().agent_slot(i + 1).result == 0);
  for (uint64_t i = 984; i < 1000; ++i) {  // the last command of each page has won
    const auto [offset, name] = mapped_at(va + i % 16 * kPage);
    CHECK(offset == (i % 100) * kPage);
    CHECK(name.find("region") != name.npos);
  }
  munmap(reinterpret_cast<void*>(va), 16 * kPage);
}

TEST_CASE("a command that fails says so and leaves what was there; the next one is executed") {
  FakeManager m([](const Request&, std::byte*, Reply&) { return true; });
  const auto s = Session::connect(m.path());
  const uint64_t va = reserve(4 * kPage);
  m.post(AgentOp::kMapRegion, va, kPage, 123, PROT_READ);                   // an odd offset
  m.post(AgentOp::kMapSentinel, va, kPage, 0, PROT_READ, 9999);             // no such fd
  m.post(static_cast<AgentOp>(77), va, kPage, 0, PROT_READ);                // no such command
  const uint64_t last = m.post(AgentOp::kMapSigbus, va + kPage, kPage, 0, PROT_READ | PROT_WRITE);
  m.wait_agent(last);
  CHECK(m.ring().agent_slot(1).result == EINVAL);
  CHECK(m.ring().agent_slot(2).result == EBADF);
  CHECK(m.ring().agent_slot(3).result == EINVAL);
  CHECK(m.ring().agent_slot(4).result == 0);
  CHECK(mapped_at(va).second == "");
  CHECK(mapped_at(va + kPage).second.find("sigbus") != std::string::npos);
  munmap(reinterpret_cast<void*>(va), 4 * kPage);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // their runtimes map memory whenever they like

// As a program does that unmaps a range and then maps something there by MAP_FIXED.
TEST_CASE("nothing of the agent's is ever in a gap that the application has made") {
  FakeManager m([](const Request&, std::byte*, Reply&) { return true; });
  const auto s = Session::connect(m.path());
  const uint64_t va = reserve(kPage), gap = reserve(3 * kPage) + kPage;
  // No other gap is as high.
  std::vector<std::pair<void*, size_t>> above;
  for (size_t bytes = size_t{1} << 40; bytes >= kPage;) {
    void* p = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reinterpret_cast<uint64_t>(p) > gap && p != MAP_FAILED) {
      above.emplace_back(p, bytes);
      continue;
    }
    if (p != MAP_FAILED) munmap(p, bytes);
    bytes /= 2;
  }
  munmap(reinterpret_cast<void*>(gap), kPage);
  void* first = mmap(nullptr, kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(reinterpret_cast<uint64_t>(first) == gap);  // so the kernel would put it there
  munmap(first, kPage);
  size_t taken = 0;
  for (int n = 0; n < 200; ++n) {
    uint64_t last = 0;
    for (uint64_t k = 0; k < kAgentSlots / 2; ++k) last = m.post(AgentOp::kMapRegion, va, kPage, k * kPage, PROT_READ | PROT_WRITE);
    while (m.ring().header().agent_done < last) {
      void* p = mmap(reinterpret_cast<void*>(gap), kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
      if (p == MAP_FAILED)
        ++taken;
      else
        munmap(p, kPage);
    }
  }
  CHECK(taken == 0);
  for (const auto& [p, bytes] : above) munmap(p, bytes);
  munmap(reinterpret_cast<void*>(gap - kPage), 3 * kPage);
  munmap(reinterpret_cast<void*>(va), kPage);
}

#endif

TEST_CASE("a reply that names a command is returned when the agent has executed it") {
  FakeManager* manager = nullptr;
  uint64_t va = reserve(kPage);
  FakeManager m([&](const Request&, std::byte*, Reply& reply) {
    reply.agent_seq = manager->post(AgentOp::kMapRegion, va, kPage, 7 * kPage, PROT_READ | PROT_WRITE);
    return true;
  });
  manager = &m;
  const auto s = Session::connect(m.path());
  for (int i = 0; i < 50; ++i) {
    Request r{};
    r.version = kVersion;
    const Reply reply = s->call(r);
    CHECK(m.ring().header().agent_done.load() >= reply.agent_seq);
  }
  CHECK(mapped_at(va).first == 7 * kPage);
  CHECK(s->agent_backlog() == 0);
  munmap(reinterpret_cast<void*>(va), kPage);
}

TEST_CASE("the agent rings a sleeping manager") {
  FakeManager m([](const Request&, std::byte*, Reply&) { return true; });
  const auto s = Session::connect(m.path());
  const uint64_t va = reserve(kPage);
  const uint64_t before = m.doorbells;
  for (int i = 0; i < 20; ++i) {
    usleep(2000);  // the manager goes to sleep
    // A command that fails: one that moves a mapping would wake the manager by its REMAP event.
    m.wait_agent(m.post(AgentOp::kMapRegion, va, kPage, 123, PROT_READ));
  }
  for (int i = 0; i < 1000 && m.doorbells == before; ++i) usleep(1000);
  CHECK(m.doorbells > before);
  munmap(reinterpret_cast<void*>(va), kPage);
}
