// The content oracle against histories with a known verdict: no false alarm where operations overlap, and none missed
// where they do not.
#include <memory>
#include <string>

#include <catch2/catch.hpp>

#include "tools/torture/content_oracle.h"

using namespace torture;

namespace {

constexpr uint64_t kPages = 64;
constexpr unsigned kWriter = 1, kPuncher = 2;
constexpr uint32_t kId = 7;

class History {
 public:
  History() {
    Config c{};
    c.file_pages = kPages;
    c.files = 1;
    c.clients = 4;
    int fd = -1;
    cb_ = create_control_block(c, &fd);
    cb_->areas[0].stamp_id = kId;
  }
  ControlBlock* cb() { return cb_; }
  PageState& page(uint64_t p) { return cb_->pages(0)[p]; }

  uint32_t start_store(uint64_t p, unsigned word = 0) {  // the generation drawn
    InFlight& f = cb_->clients[kWriter].in_flight;
    f.area = 1;
    f.first = p * kPage + word * kWordStride;
    f.end = f.first + 8;
    f.seq.fetch_add(1);
    return cb_->epoch.load();
  }
  void end_store() { cb_->clients[kWriter].in_flight.seq.fetch_add(1); }
  Invalidation punch(uint64_t first, uint64_t end) { return Invalidation(cb_, kPuncher, 0, first, end); }

  std::string sees(uint64_t p, unsigned word, uint64_t value) {
    std::string why;
    const char* kind = judge(cb_, 0, p, word, value, expect(page(p), word), &why);
    return kind == nullptr ? "legal" : kind;
  }
  std::string sees_stamp(uint64_t p, uint32_t gen, unsigned word = 0) {
    return sees(p, word, encode({kId, static_cast<uint32_t>(p), gen}, word));
  }

 private:
  ControlBlock* cb_;  // for the life of the process
};

}  // namespace

TEST_CASE("a stamp comes back as it was, and only in its own word") {
  Stamp out;
  for (uint32_t gen : {1u, 77u, kMaxEpoch})
    for (unsigned word = 0; word < kWords; ++word) {
      uint64_t v = encode({kStampIds, 65535, gen}, word);
      REQUIRE(decode(v, word, &out));
      CHECK(out.id == kStampIds);
      CHECK(out.page == 65535);
      CHECK(out.gen == gen);
      unsigned accepted = 0;
      for (unsigned other = 0; other < kWords; ++other) accepted += decode(v, other, &out) ? 1 : 0;
      CHECK(accepted == 1);
    }
  CHECK_FALSE(decode(0, 0, &out));
}

TEST_CASE("a finished store that outlives a punch is stale") {
  History h;
  uint32_t gen = h.start_store(5);
  h.end_store();
  Invalidation punch = h.punch(4 * kPage, 8 * kPage);
  CHECK(h.sees_stamp(5, gen) == "legal");  // the punch has not returned
  punch.returned(true);
  punch.finished();
  CHECK(h.sees_stamp(5, gen) == "stale");
  CHECK(h.sees_stamp(8, gen) == "legal");  // not covered
}

TEST_CASE("a store that was on its way when the punch began may survive it") {
  History h;
  uint32_t gen = h.start_store(5);
  Invalidation punch = h.punch(4 * kPage, 8 * kPage);
  h.end_store();
  punch.returned(true);
  punch.finished();
  CHECK(h.sees_stamp(5, gen) == "legal");
  // A later punch finds nobody on the way.
  Invalidation again = h.punch(4 * kPage, 8 * kPage);
  again.returned(true);
  again.finished();
  CHECK(h.sees_stamp(5, gen) == "stale");
}

TEST_CASE("a store that began during or after the punch is young enough") {
  History h;
  Invalidation punch = h.punch(0, kPage);
  uint32_t during = h.start_store(0);
  h.end_store();
  punch.returned(true);
  punch.finished();
  uint32_t later = h.start_store(0);
  h.end_store();
  CHECK(h.sees_stamp(0, during) == "legal");
  CHECK(h.sees_stamp(0, later) == "legal");
}

TEST_CASE("of a partial page only whole covered words count, and only where that is known") {
  bool known = GENERATE(true, false);
  History h;
  uint32_t gen = h.start_store(0, 7);
  h.end_store();
  Invalidation punch = h.punch(kWordStride, kPage + 8);  // not word 0; of page 1 only word 0
  punch.returned(known);
  punch.finished();
  std::string expected = known ? "stale" : "legal";
  CHECK(h.sees_stamp(0, gen, 0) == "legal");
  CHECK(h.sees_stamp(0, gen, 1) == expected);
  CHECK(h.sees_stamp(0, gen, 7) == expected);
  CHECK(h.sees_stamp(1, gen, 0) == expected);
  CHECK(h.sees_stamp(1, gen, 1) == "legal");
}

TEST_CASE("what lies behind the end of the file is nobody's content") {
  History h;
  uint32_t gen = h.start_store(0, 7);
  h.end_store();
  Invalidation zero = h.punch(0, 2 * kPage);
  zero.returned(true, kPage + 2 * kWordStride);
  zero.finished();
  CHECK(h.sees_stamp(0, gen, 7) == "stale");
  CHECK(h.sees_stamp(1, gen, 1) == "stale");
  CHECK(h.sees_stamp(1, gen, 2) == "legal");
}

TEST_CASE("zero is legal unless a store is known to be there") {
  History h;
  CHECK(h.sees(3, 0, 0) == "legal");
  h.page(3).present[0] = h.page(3).begun.load() + 1;
  CHECK(h.sees(3, 0, 0) == "lost-store");
  CHECK(h.sees(3, 1, 0) == "legal");
  Invalidation punch = h.punch(3 * kPage, 4 * kPage);
  CHECK(h.sees(3, 0, 0) == "legal");
  punch.finished();
  CHECK(h.sees(3, 0, 0) == "legal");
}

TEST_CASE("stamps of other places, freed blocks and rubbish are told apart") {
  History h;
  CHECK(h.sees(3, 0, encode({kId + 1, 3, 1}, 0)) == "other-file");
  CHECK(h.sees(3, 0, encode({kId, 4, 1}, 0)) == "other-page");
  CHECK(h.sees(3, 0, kFreedPattern) == "freed-block");
  CHECK(h.sees(3, 0, encode({kId, 3, 1}, 0) ^ 1) == "garbage");
  CHECK(h.sees(3, 0, encode({kId, 3, 1000}, 0)) == "garbage");  // from the future
  h.start_store(3);
  CHECK(h.sees(3, 0, encode({kId, 3, 1}, 0) ^ 1) == "legal");  // half of a write on its way
}

TEST_CASE("a client that died inside a call makes its file's content uncertain, but not its identity") {
  History h;
  uint32_t gen = h.start_store(5);
  h.cb()->clients[kWriter].api_area = 1;
  h.cb()->clients[kWriter].pid = 1234;
  Invalidation punch = h.punch(0, kPages * kPage);
  REQUIRE(bury(h.cb(), kWriter));
  punch.returned(true);
  punch.finished();
  Invalidation second = h.punch(0, kPages * kPage);
  second.returned(true);
  second.finished();
  CHECK(h.sees_stamp(5, gen) == "legal");  // what it asked for may be done late
  CHECK(h.sees(5, 0, encode({kId + 1, 5, gen}, 0)) == "other-file");
  CHECK(h.cb()->files[0].retire.load() == 1);
  CHECK(h.cb()->clients[kWriter].pid.load() == 0);
}

TEST_CASE("the size counts only while no call that may change it is in flight") {
  History h;
  Area& a = h.cb()->areas[0];
  CHECK(view_size(a).known);  // 0, of version 0
  begin_resize(a);
  CHECK_FALSE(view_size(a).known);
  begin_resize(a);
  end_resize(a, [] { return 11; });  // not the last: says nothing
  CHECK_FALSE(view_size(a).known);
  end_resize(a, [] { return 4096; });
  SizeView v = view_size(a);
  CHECK(v.known);
  CHECK(v.size == 4096);
  CHECK(unchanged(a, v));
  begin_resize(a);
  CHECK_FALSE(unchanged(a, v));
  // One that begins while the size is being read makes that reading worthless.
  end_resize(a, [&] {
    begin_resize(a);
    return 8192;
  });
  CHECK_FALSE(view_size(a).known);
}
