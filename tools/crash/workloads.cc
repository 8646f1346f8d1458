#include "tools/crash/workloads.h"

#include <random>

namespace pmfs::crash {
namespace {

constexpr uint64_t kOneIsLong = 40;  // of so many workloads

}  // namespace

Workload setup() {
  return parse_workload(
      "create /a; write /a 0 12288; write /a 20480 5000; chmod /a 420;"
      "mkdir /d; create /d/b; write /d/b 0 9000; mkdir /d/sub;"
      "symlink d/b /l; setxattr /d/b user.a 300");
}

const std::vector<Op>& alphabet() {
  static const std::vector<Op> all = parse_workload(
      "create /c; create /d/c; mkdir /e; mkdir /d/f; unlink /a; unlink /d/b; rmdir /d/sub; rmdir /e;"
      "rename /a /c; rename /a /d/b; rename /d/b /a; rename /d/sub /e; rename /d /e;"
      "write /a 0 4096; write /a 100 9000; write /a 12288 8192; write /a 30000 6000; write /d/b 9000 100; write /c 0 "
      "5000;"
      "append /a 3000; append /d/b 200;"
      "store /a 4000 300; store /a 12288 4096; storesync /a 8000 9000;"
      "truncate /a 0; truncate /a 6000; truncate /a 12288; truncate /a 60000; truncate /d/b 100;"
      "punch /a 0 8192; punch /a 1000 6000; zero /a 0 8192; zero /a 3000 7000; alloc /a 8192 12288; alloc /d/b 0 20000;"
      "chmod /a 384; chmod /d 448;"
      "link /a /c; link /d/b /e; symlink a /c; unlink /l; rename /a /l; rename-new /a /c; rename-new /d/sub /e;"
      "exchange /a /d/b; exchange /a /d; exchange /d/sub /l;"
      "setxattr /a user.b 100; setxattr /d/b user.a 6000; rmxattr /d/b user.a; quota 1 50; grow 5000; grow 6001;"
      "collapse /a 4096 8192; collapse /a 0 4096; insert /a 4096 8192;"
      "clone /a 0 /d/b 0 12288; clone /d/b 0 /a 28672 0; clone /a 0 /a 32768 8192; copy /a 0 /d/b 4096 24000");
  return all;
}

uint64_t exhaustive_count() {
  const uint64_t k = alphabet().size();
  return (k + k * k) * kOneIsLong / (kOneIsLong - 1) + 1;
}

Planned planned(uint64_t n, uint64_t seed, size_t long_ops) {
  const auto& all = alphabet();
  const uint64_t k = all.size(), at = n - n / kOneIsLong;
  const bool seeded = n % kOneIsLong == kOneIsLong - 1;
  if (!seeded && at < k) return {{all[at]}, 0};
  if (!seeded && at < k + k * k) return {{all[(at - k) / k], all[(at - k) % k]}, 1};
  std::mt19937_64 rng(seed * 0x9e3779b97f4a7c15 + n);
  Planned p;
  for (size_t i = 0; i < long_ops; ++i) p.ops.push_back(all[rng() % k]);
  return p;
}

}  // namespace pmfs::crash
