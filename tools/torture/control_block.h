// The memory that the orchestrator, its workers and their forked children share (one memfd): what each page of each
// file may hold, who is writing where, what is mapped where, the last operations of each client, and violations.
//
// Why the content check has no false alarms, and needs no lock between a reader and a writer:
//
//   epoch    one global counter, raised by each invalidate *before* it is issued (its value then: b).
//   stamp    one 64-bit word {file id, page, gen, check}: stored and loaded whole. gen = the epoch that the
//            writer read *after* it had published in InFlight where it is going to write.
//   floor    after an invalidate returned, the floor of every word that it covers is raised to its b, except on
//            pages where somebody was in flight when it looked (which was after it had raised the epoch).
//
// A store that finished before the invalidate began has gen < b and must be gone: seeing it is a violation. A
// store whose gen was drawn after b has gen >= b and passes. A store in between (gen < b, but not yet executed when
// the invalidate began) was in flight when the invalidate looked, so the floor was not raised there: sequentially
// consistent publish-then-read-epoch against raise-epoch-then-look leaves no third case. A reader reads the floor
// before it looks at the word. Zero is always a legal value, except for the `present` check:
//
//   begun, ended   invalidates that touch the page, counted before issue and after return
//   present        begun+1 at a moment when a store was seen to finish with no invalidate in flight on its page; as long
//                  as begun has not moved the word can't be zero ("lost store").
//
// Sizes work alike: size_version is raised before any call that may change the size; size_published holds the size
// that was read when none was in flight, with the version it belongs to. An access whose version is the same before
// and after must raise SIGBUS beyond that size, and must not inside it.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

namespace torture {

inline constexpr uint64_t kPage = 4096;
inline constexpr unsigned kMaxClients = 64;  // and as many forked children
inline constexpr unsigned kMaxFiles = 16;
inline constexpr unsigned kAreasPerFile = 3;  // incarnations of one file that may be in use at once
inline constexpr unsigned kWords = 8;         // stamped words in a page, 512 bytes apart
inline constexpr unsigned kWordStride = 512;
inline constexpr uint64_t kMaxFilePages = 1 << 16;
inline constexpr unsigned kMaxMaps = 2 * kMaxFiles;
inline constexpr unsigned kRingSize = 512;
inline constexpr unsigned kMaxViolations = 64;

enum class OpKind : uint8_t {
  kNone, kLoad, kStore, kPunch, kTruncate, kZeroRange, kRead, kWrite, kAppend, kRecreate, kRename, kRemap, kFork, kOpen,
  kPipe, kCount
};
const char* op_name(OpKind op);

struct Config {  // fixed before the first worker starts
  uint64_t seed;
  uint64_t file_pages;
  uint32_t files, clients;
  uint32_t weights[16];  // by MixOp
  uint32_t is_target;    // plain file system instead of a pmfs volume
  uint32_t kills_manager;  // calls may end with EOWNERDEAD
  uint32_t unit_pages;   // blocks are freed so many at a time
  uint32_t map_pages;    // mappings begin and end at multiples of so many; the end of a file is felt there, if it is more than 1
  uint32_t may_fill;     // the volume does not hold all files at once: SIGBUS may mean ENOSPC
  char path[512];        // volume, or our directory on the target
  char prefix[64];       // in the volume: our directory, or empty
};

struct PageState {
  std::atomic<uint32_t> begun, ended, floor;
  std::atomic<uint32_t> word_floor[kWords];
  std::atomic<uint32_t> present[kWords];
};

// One incarnation of a file (unlink + create and rename over make new ones).
struct Area {
  std::atomic<uint64_t> ino, generation;
  std::atomic<uint32_t> stamp_id;  // 1 .. kStampIds
  std::atomic<uint32_t> tainted;   // a client died inside a call on it: late effects are possible
  std::atomic<uint32_t> size_version, size_active;
  std::atomic<uint64_t> size_published;  // pack_size()
};

inline uint64_t pack_size(uint32_t version, uint64_t size) { return uint64_t{version & 0xffffff} << 40 | size; }
inline uint32_t packed_version(uint64_t v) { return static_cast<uint32_t>(v >> 40); }
inline uint64_t packed_size(uint64_t v) { return v & ((uint64_t{1} << 40) - 1); }

// What a file slot is at present, in one word: incarnation, name and area.
struct Current {
  uint32_t incarnation = 0, name = 0;
  uint32_t area = 0;
  bool operator==(const Current&) const = default;
};
inline uint64_t pack(const Current& c) { return uint64_t{c.incarnation} << 36 | uint64_t{c.name} << 8 | c.area; }
inline Current unpack(uint64_t v) {
  return {static_cast<uint32_t>(v >> 36), static_cast<uint32_t>(v >> 8) & 0xfffffff, static_cast<uint32_t>(v & 0xff)};
}

struct FileSlot {
  std::atomic<uint64_t> current;
  std::atomic<uint32_t> owner;   // client + 1 that makes a new incarnation
  std::atomic<uint32_t> retire;  // make a new incarnation soon
  std::atomic<uint64_t> hot;     // first page << 32 | pages: what was invalidated last
};

struct InFlight {              // seq odd: a store or write to [first, end) of `area` is on its way
  std::atomic<uint32_t> seq;
  std::atomic<uint32_t> area;  // + 1
  std::atomic<uint64_t> first, end;
};

struct MapEntry {  // seq even and pages != 0: valid
  std::atomic<uint32_t> seq;
  std::atomic<uint64_t> va, ino, generation, pgoff, pages;
};

struct OpRecord {  // read by others only to explain a violation
  uint64_t begin_ns, end_ns;  // end 0: not back yet
  uint64_t first, count;      // bytes
  uint32_t incarnation;
  uint32_t gen;
  uint8_t file;
  OpKind op;
  uint8_t failed;
};

struct alignas(64) ClientSlot {
  std::atomic<int32_t> pid;
  std::atomic<uint32_t> api_area;  // + 1 while inside a call on that area
  std::atomic<uint64_t> progress;
  InFlight in_flight;
  std::atomic<uint8_t> pins[kMaxFiles];  // area + 1
  MapEntry maps[kMaxMaps];
  std::atomic<uint64_t> counts[static_cast<size_t>(OpKind::kCount)];
  std::atomic<uint64_t> sigbus, no_space, minor_faults;
  std::atomic<uint64_t> ring_head;
  OpRecord ring[kRingSize];
};

struct Violation {
  std::atomic<uint32_t> state;  // 0 free, 1 being written, 2 ready
  uint32_t client;
  uint32_t file, incarnation;
  uint64_t page;  // ~0: none
  uint64_t pfn;   // ~0: not known
  uint64_t ino;
  uint64_t at_ns;
  char kind[24];
  char text[400];
};

struct ControlBlock {
  Config config;
  std::atomic<uint32_t> stop;
  std::atomic<uint32_t> incarnations, names;
  alignas(64) std::atomic<uint32_t> epoch;
  alignas(64) std::atomic<uint32_t> violation_count;
  Violation violations[kMaxViolations];
  FileSlot files[kMaxFiles];
  Area areas[kMaxFiles * kAreasPerFile];
  ClientSlot clients[2 * kMaxClients];  // [kMaxClients + i]: the forked child of i
  // PageState pages[files * kAreasPerFile][file_pages] follows
  PageState* pages(unsigned area) {
    auto* base = reinterpret_cast<PageState*>(reinterpret_cast<std::byte*>(this) + pages_offset());
    return base + area * config.file_pages;
  }
  static constexpr size_t pages_offset() { return (sizeof(ControlBlock) + 4095) & ~size_t{4095}; }
  static size_t bytes(unsigned files, uint64_t file_pages) {
    return pages_offset() + sizeof(PageState) * files * kAreasPerFile * file_pages;
  }
};
static_assert(kMaxFiles * kAreasPerFile < 255);
static_assert(std::atomic<uint64_t>::is_always_lock_free);

// The control block in a fresh memfd, or mapped from an inherited one. Stays mapped until exit.
ControlBlock* create_control_block(const Config& config, int* fd);
ControlBlock* map_control_block(int fd);

uint64_t now_ns();
std::string file_name(const Config& c, unsigned file, uint32_t name);

// Clears a dead client's slot. True: it died inside a call on `*area`.
bool bury(ControlBlock* cb, unsigned client);
// Reserves a violation record and fills it; dropped when all are taken.
void report_violation(ControlBlock* cb, unsigned client, const char* kind, const std::string& text, unsigned file = ~0u,
                      uint32_t incarnation = 0, uint64_t page = ~uint64_t{0}, uint64_t pfn = ~uint64_t{0},
                      uint64_t ino = 0);

}  // namespace torture
