// The oracle of the power-cut test: what it lets through and what it does not.
#include <catch2/catch.hpp>

#include "tools/vm/plan.h"

using namespace pmfs::powercut;

namespace {

struct Step {
  State before, after;
  Op op;
};

// The first step of a plan that is of this kind.
Step step_of(Kind kind) {
  Plan plan(3, 0);
  for (;;) {
    Step s;
    s.before = plan.state();
    s.op = plan.next();
    s.after = plan.state();
    if (s.op.kind == kind && (kind != Kind::kWrite || s.before.files.at(s.op.path).size() > s.op.offset + s.op.length)) return s;
  }
}

}  // namespace

TEST_CASE("power cut: a plan follows from its seed, and every operation changes something") {
  Plan a(7, 1), b(7, 1), other(7, 2);
  bool same = true;
  for (int i = 0; i < 500; ++i) {
    const State before = a.state();
    const Op op = a.next();
    CHECK(to_string(op) == to_string(b.next()));
    same = same && to_string(op) == to_string(other.next());
    REQUIRE(a.state() != before);
  }
  CHECK(a.state() == b.state());
  CHECK_FALSE(same);
}

TEST_CASE("power cut: before and after are right, for every kind of operation; one more that was not done is not") {
  Plan plan(11, 0);
  State before = plan.state();
  Op op = plan.next();
  unsigned missed = 0;
  for (int i = 0; i < 1000; ++i) {
    const State after = plan.state();
    CHECK_FALSE(judge(before, before, after, op));
    CHECK_FALSE(judge(after, before, after, op));
    const Op next = plan.next();
    // Acknowledged were `op` and `next`, but what is there is from before both.
    if (judge(before, after, plan.state(), next)) ++missed;
    before = after;
    op = next;
  }
  CHECK(missed > 950);  // (create and unlink of one file undo each other)
}

TEST_CASE("power cut: a write may be there in part, in its own range of its own file") {
  const Step s = step_of(Kind::kWrite);
  State found = s.before;
  auto& data = found.files.at(s.op.path);
  for (uint64_t i = 0; i < s.op.length; i += 2) data[s.op.offset + i] = s.after.files.at(s.op.path)[s.op.offset + i];
  CHECK_FALSE(judge(found, s.before, s.after, s.op));
  const std::byte was = data[s.op.offset];
  const std::byte old = s.before.files.at(s.op.path)[s.op.offset];
  for (data[s.op.offset] = std::byte{1}; data[s.op.offset] == old || data[s.op.offset] == was;)
    data[s.op.offset] = static_cast<std::byte>(static_cast<unsigned>(data[s.op.offset]) + 1);
  CHECK(judge(found, s.before, s.after, s.op));  // a byte that is neither
  data[s.op.offset] = was;
  data[s.op.offset + s.op.length] ^= std::byte{1};
  CHECK(judge(found, s.before, s.after, s.op));  // behind its range
  data[s.op.offset + s.op.length] ^= std::byte{1};
  data.resize(data.size() - 1);
  CHECK(judge(found, s.before, s.after, s.op));  // a size that is neither
  found = s.before;
  found.files["stranger"];
  CHECK(judge(found, s.before, s.after, s.op));
  found = s.before;
  found.files.erase(s.op.path);
  CHECK(judge(found, s.before, s.after, s.op));
}

TEST_CASE("power cut: a rename is one step") {
  const Step s = step_of(Kind::kRename);
  State both = s.before;
  both.files[s.op.other] = s.before.files.at(s.op.path);
  CHECK(judge(both, s.before, s.after, s.op));
  State none = s.after;
  none.files.erase(s.op.other);
  CHECK(judge(none, s.before, s.after, s.op));
}
