#include "pmfs/meta/hash.h"

#include <array>
#include <bit>
#include <cstring>

namespace pmfs::meta {
namespace {

constexpr std::array<uint32_t, 256> make_crc_table() {
  std::array<uint32_t, 256> t{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t c = i;
    for (int k = 0; k < 8; ++k) c = (c & 1) != 0 ? (c >> 1) ^ 0x82f63b78u : c >> 1;  // Castagnoli, reflected
    t[i] = c;
  }
  return t;
}
constexpr auto kCrcTable = make_crc_table();

struct Sip {
  uint64_t a, b, c, d;
  void round() {
    a += b;
    c += d;
    b = std::rotl(b, 13) ^ a;
    d = std::rotl(d, 16) ^ c;
    a = std::rotl(a, 32);
    c += b;
    a += d;
    b = std::rotl(b, 17) ^ c;
    d = std::rotl(d, 21) ^ a;
    c = std::rotl(c, 32);
  }
  void word(uint64_t w) {
    d ^= w;
    round();
    round();
    a ^= w;
  }
};

}  // namespace

// A sum over pairs of words, each mixed with its place and folded by one wide multiplication (as wyhash, Wang Yi 2019): no chain
// from pair to pair, so the CPU works on several at once.
uint64_t mixed_sum(const void* data, size_t bytes, uint64_t seed) {
  constexpr uint64_t kGolden = 0x9e3779b97f4a7c15;
  constexpr size_t kPair = 16;
  __extension__ using Wide = unsigned __int128;
  const auto mix = [](uint64_t x) {
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
  };
  const auto* p = static_cast<const uint8_t*>(data);
  uint64_t place = mix(seed + kGolden), sum = place ^ bytes;
  const auto add = [&](const uint64_t (&w)[2]) {
    place += kGolden;
    const Wide product = Wide{w[0] ^ place} * (w[1] ^ std::rotl(place, 32));
    sum += static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
  };
  for (; bytes >= kPair; p += kPair, bytes -= kPair) {
    uint64_t w[2];
    std::memcpy(w, p, kPair);
    add(w);
  }
  if (bytes > 0) {
    uint64_t w[2] = {};
    std::memcpy(w, p, bytes);
    add(w);
  }
  return mix(sum);
}

uint32_t crc32c_by_table(const void* data, size_t bytes, uint32_t seed) {
  const auto* p = static_cast<const uint8_t*>(data);
  uint32_t c = ~seed;
  for (size_t i = 0; i < bytes; ++i) c = kCrcTable[(c ^ p[i]) & 0xff] ^ (c >> 8);
  return ~c;
}

#if defined(__x86_64__)
namespace {

__attribute__((target("sse4.2"))) uint32_t crc32c_by_instruction(const void* data, size_t bytes, uint32_t seed) {
  const auto* p = static_cast<const uint8_t*>(data);
  uint64_t c = ~seed;
  for (; bytes >= 8; p += 8, bytes -= 8) {
    uint64_t w;
    std::memcpy(&w, p, 8);
    c = __builtin_ia32_crc32di(c, w);
  }
  auto low = static_cast<uint32_t>(c);
  for (; bytes > 0; ++p, --bytes) low = __builtin_ia32_crc32qi(low, *p);
  return ~low;
}

}  // namespace

uint32_t crc32c(const void* data, size_t bytes, uint32_t seed) {
  static const bool has = __builtin_cpu_supports("sse4.2");
  return has ? crc32c_by_instruction(data, bytes, seed) : crc32c_by_table(data, bytes, seed);
}
#else
uint32_t crc32c(const void* data, size_t bytes, uint32_t seed) { return crc32c_by_table(data, bytes, seed); }
#endif

uint64_t siphash(const uint64_t key[2], std::string_view s) {
  Sip v{key[0] ^ 0x736f6d6570736575, key[1] ^ 0x646f72616e646f6d, key[0] ^ 0x6c7967656e657261,
        key[1] ^ 0x7465646279746573};
  size_t i = 0;
  for (; i + 8 <= s.size(); i += 8) {
    uint64_t w;
    std::memcpy(&w, s.data() + i, 8);
    v.word(w);
  }
  uint64_t last = uint64_t{s.size()} << 56;
  for (size_t k = 0; i + k < s.size(); ++k) last |= uint64_t{static_cast<uint8_t>(s[i + k])} << (8 * k);
  v.word(last);
  v.c ^= 0xff;
  for (int r = 0; r < 4; ++r) v.round();
  return v.a ^ v.b ^ v.c ^ v.d;
}

}  // namespace pmfs::meta
