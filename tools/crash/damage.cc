#include "tools/crash/damage.h"

#include <cstring>
#include <random>

#include <fmt/format.h>

namespace pmfs::crash {
namespace {

using Rng = std::mt19937_64;

LineBytes line_at(Image& i, LineId id) {
  LineBytes b;
  std::memcpy(b.data(), i.bytes(id.area) + id.number * kLineBytes, kLineBytes);
  return b;
}

bool empty(const LineBytes& b) {
  for (std::byte x : b)
    if (x != std::byte{0}) return false;
  return true;
}

// A line of the pool; seven times of eight one that holds something.
LineId pick(Image& i, Rng& rng) {
  const uint64_t lines = i.size(Area::kMeta) / kLineBytes;
  const bool any = rng() % 8 == 0;
  for (;;) {
    LineId id{Area::kMeta, rng() % lines};
    if (any || !empty(line_at(i, id))) return id;
  }
}

std::string flip_bits(Image& i, Rng& rng) {
  std::string text = "bits flipped at";
  for (uint64_t k = 1 + rng() % (rng() % 2 == 0 ? 1 : 8); k > 0; --k) {
    LineId id = pick(i, rng);
    LineBytes b = line_at(i, id);
    size_t at = rng() % kLineBytes;
    unsigned bit = rng() % 8;
    b[at] ^= static_cast<std::byte>(1u << bit);
    i.set(id, b);
    text += fmt::format(" {:#x}.{}", id.number * kLineBytes + at, bit);
  }
  return text;
}

std::string tear_line(Image& i, Image& stale, Rng& rng) {
  LineId id = pick(i, rng);
  LineBytes b = line_at(i, id), old = line_at(stale, id);
  if (b == old) old.fill(static_cast<std::byte>(rng()));
  size_t words = 1 + rng() % 7;
  std::memcpy(b.data(), old.data(), words * 8);
  i.set(id, b);
  return fmt::format("line at {:#x} torn after {} bytes", id.number * kLineBytes, words * 8);
}

std::string swap_blocks(Image& i, Rng& rng) {
  static constexpr size_t kSizes[] = {64, 256, 1024, 4096};
  const size_t lines = kSizes[rng() % 4] / kLineBytes;
  uint64_t a = pick(i, rng).number / lines * lines, b = pick(i, rng).number / lines * lines;
  for (uint64_t k = 0; k < lines && a != b; ++k) {
    LineId x{Area::kMeta, a + k}, y{Area::kMeta, b + k};
    LineBytes bytes = line_at(i, x);
    i.set(x, line_at(i, y));
    i.set(y, bytes);
  }
  return fmt::format("{} bytes at {:#x} and {:#x} swapped", lines * kLineBytes, a * kLineBytes, b * kLineBytes);
}

std::string overwrite(Image& i, Rng& rng) {
  const size_t lines = rng() % 2 == 0 ? 1 : kPageBytes / kLineBytes;
  uint64_t a = pick(i, rng).number / lines * lines;
  const bool zero = rng() % 2 == 0;
  for (uint64_t k = 0; k < lines; ++k) {
    LineBytes b{};
    if (!zero)
      for (std::byte& x : b) x = static_cast<std::byte>(rng());
    i.set({Area::kMeta, a + k}, b);
  }
  return fmt::format("{} bytes at {:#x} {}", lines * kLineBytes, a * kLineBytes, zero ? "zeroed" : "overwritten");
}

std::string go_stale(Image& i, Image& stale, Rng& rng) {
  const size_t lines = rng() % 2 == 0 ? 1 + rng() % 4 : kPageBytes / kLineBytes;
  const uint64_t all = i.size(Area::kMeta) / kLineBytes;
  uint64_t a = 0;
  for (int tries = 0; tries < 4000; ++tries) {  // where the two differ
    a = pick(i, rng).number / lines * lines;
    if (a + lines <= all && line_at(i, {Area::kMeta, a}) != line_at(stale, {Area::kMeta, a})) break;
  }
  for (uint64_t k = 0; k < lines && a + k < all; ++k) i.set({Area::kMeta, a + k}, line_at(stale, {Area::kMeta, a + k}));
  return fmt::format("{} bytes at {:#x} as they were earlier", lines * kLineBytes, a * kLineBytes);
}

}  // namespace

Damage damage(Image& image, Image& stale, uint64_t n, uint64_t seed) {
  Rng rng(seed * 0x9e3779b97f4a7c15 + n);
  Damage d;
  switch (rng() % 12) {
    case 0:
    case 1:
    case 2:
    case 3: d.text = flip_bits(image, rng); break;
    case 4:
    case 5: d.text = tear_line(image, stale, rng); break;
    case 6:
    case 7: d.text = swap_blocks(image, rng); break;
    case 8: d.text = overwrite(image, rng); break;
    case 9:
    case 10: d.text = go_stale(image, stale, rng); break;
    default:
      if (rng() % 3 == 0) {
        d.data_bytes = 1 + rng() % image.size(Area::kData);
        d.text = fmt::format("the region cut to {} bytes", d.data_bytes);
      } else {
        d.meta_bytes = 1 + rng() % image.size(Area::kMeta);
        d.text = fmt::format("the pool cut to {} bytes", d.meta_bytes);
      }
  }
  return d;
}

}  // namespace pmfs::crash
