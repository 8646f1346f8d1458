#include "tools/torture/report.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <sstream>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace torture {

namespace {

constexpr size_t kShown = 6;  // operations named per violation
constexpr size_t kDetails = 8;

double rate(uint64_t n, double seconds) { return seconds > 0 ? static_cast<double>(n) / seconds : 0; }
std::string us(uint64_t ns) { return fmt::format("{:.1f} us", static_cast<double>(ns) / 1000); }

bool takes_away(OpKind op) {
  return op == OpKind::kPunch || op == OpKind::kTruncate || op == OpKind::kZeroRange || op == OpKind::kRecreate ||
         op == OpKind::kRename;
}

}  // namespace

Totals operator+(const Totals& dead, const Totals& now) {
  Totals t = now;
  t.faults += dead.faults;
  t.invalidates += dead.invalidates;
  t.retries += dead.retries;
  t.canary_errors += dead.canary_errors;
  t.installs += dead.installs;
  return t;
}

Totals totals_of(const pmfs::proto::WireCounters& now, const pmfs::proto::WireCounters& start) {
  return {now.faults - start.faults,
          now.invalidates - start.invalidates,
          now.retries - start.retries,
          now.canary_errors - start.canary_errors,
          now.installs_pages - start.installs_pages,
          now.fault_p50_ns,
          now.fault_p99_ns,
          now.fault_p999_ns,
          now.invalidate_p50_ns,
          now.invalidate_p99_ns};
}

Totals totals_of_target(const ControlBlock& cb) {
  Totals t;
  for (const ClientSlot& c : cb.clients) {
    t.faults += c.minor_faults.load();
    for (OpKind op : {OpKind::kPunch, OpKind::kTruncate, OpKind::kZeroRange, OpKind::kRecreate, OpKind::kRename})
      t.invalidates += c.counts[static_cast<size_t>(op)].load();
  }
  return t;
}

std::vector<std::string> interleaved(const ControlBlock& cb, const Violation& v) {
  struct Line {
    uint64_t at;
    bool takes;
    std::string text;
  };
  std::vector<Line> lines;
  for (unsigned c = 0; c < 2 * kMaxClients; ++c) {
    uint64_t head = cb.clients[c].ring_head.load();
    for (uint64_t i = head > kRingSize ? head - kRingSize : 0; i < head; ++i) {
      OpRecord r = cb.clients[c].ring[i % kRingSize];  // may be overwritten meanwhile: only words in a report
      bool same_page = v.page == ~uint64_t{0} || r.op == OpKind::kRecreate || r.op == OpKind::kRename ||
                       (r.first < (v.page + 1) * kPage && (r.op == OpKind::kTruncate || r.first + r.count > v.page * kPage));
      if (v.file != r.file || !same_page || (v.incarnation != 0 && r.incarnation != v.incarnation) ||
          r.begin_ns > v.at_ns || r.op == OpKind::kFork || r.op == OpKind::kRemap || r.op == OpKind::kOpen)
        continue;
      auto before = [&](uint64_t t) { return fmt::format("-{:.3f} ms", static_cast<double>(v.at_ns - std::min(t, v.at_ns)) / 1e6); };
      lines.push_back({r.end_ns != 0 ? r.end_ns : v.at_ns, takes_away(r.op),
                       fmt::format("{} by client {}: bytes {}+{} gen {}, begun {}, {}", op_name(r.op), c, r.first, r.count,
                                   r.gen, before(r.begin_ns), r.end_ns == 0 ? "not back" : "back " + before(r.end_ns))});
    }
  }
  std::sort(lines.begin(), lines.end(), [](const Line& a, const Line& b) { return a.at > b.at; });
  // The last of those that take away and the last of those that touch: the two that met are among them.
  std::vector<std::string> out;
  for (bool takes : {true, false}) {
    size_t n = 0;
    for (const Line& l : lines)
      if (l.takes == takes && n++ < kShown / 2) out.push_back(l.text);
  }
  return out;
}

std::string met(const std::string& trace) {
  std::string install, taken;
  std::istringstream in(trace);  // newest first
  for (std::string line; std::getline(in, line);) {
    bool installs = line.find("install") != std::string::npos;
    if (installs && install.empty()) install = line;
    if (!installs && line.find("zap") != std::string::npos && taken.empty()) taken = line;
  }
  return install.empty() || taken.empty() ? "" : fmt::format("{} | {}", install, taken);
}

void print_progress(const Totals& now, const Totals& before, double seconds, double total, size_t violations) {
  fmt::print(stderr, "{}{:5.0f}/{:.0f} s  faults {:8.0f}/s  invalidates {:6.0f}/s  violations {}{}", isatty(2) ? "\r" : "",
             seconds, total, static_cast<double>(now.faults - before.faults), static_cast<double>(now.invalidates - before.invalidates),
             violations, isatty(2) ? "  " : "\n");
  std::fflush(stderr);
}

void print_summary(const Options& o, const Summary& s) {
  const Totals& t = s.totals;
  if (o.json) {
    nlohmann::ordered_json j;
    j["violations"] = s.violations.size();
    j["faults"] = t.faults;
    j["invalidates"] = t.invalidates;
    j["seconds"] = s.seconds;
    j["clients"] = o.clients;
    j["files"] = o.files;
    j["seed"] = o.seed;
    j["exclusion"] = o.exclusion;
    j["target"] = o.target;
    j["faults_per_s"] = rate(t.faults, s.seconds);
    j["invalidates_per_s"] = rate(t.invalidates, s.seconds);
    j["retries"] = t.retries;
    j["installed_pages"] = t.installs;
    j["fault_p50_ns"] = t.fault_p50_ns;
    j["fault_p99_ns"] = t.fault_p99_ns;
    j["fault_p999_ns"] = t.fault_p999_ns;
    j["invalidate_p50_ns"] = t.invalidate_p50_ns;
    j["invalidate_p99_ns"] = t.invalidate_p99_ns;
    j["canary_errors"] = t.canary_errors;
    j["kills"] = s.kills;
    j["manager_kills"] = s.manager_kills;
    j["stops"] = s.stops;
    j["sigbus"] = s.sigbus;
    j["no_space"] = s.no_space;
    j["pte_rounds"] = s.pte_rounds;
    j["pte_pages"] = s.pte_pages;
    j["ops"] = s.ops;
    j["note"] = s.note;
    j["violation_details"] = nlohmann::ordered_json::array();
    for (const Found& f : s.violations)
      j["violation_details"].push_back({{"kind", f.kind}, {"text", f.text}, {"met", f.met}, {"interleaved", f.interleaved}, {"trace", f.trace}});
    fmt::print("{}\n", j.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
    return;
  }
  if (isatty(2) && !o.quiet) fmt::print(stderr, "\n");
  for (size_t i = 0; i < std::min(s.violations.size(), kDetails); ++i) {
    const Found& f = s.violations[i];
    fmt::print("VIOLATION {}: {}\n", f.kind, f.text);
    if (!f.met.empty()) fmt::print("  interleaved: {}\n", f.met);
    for (const std::string& line : f.interleaved) fmt::print("  {}\n", line);
    if (!f.trace.empty()) fmt::print("  the manager on this block:\n{}", f.trace);
  }
  fmt::print("{} for {:.1f} s, {} clients, {} files, seed {}\n",
             o.target.empty() ? "exclusion " + o.exclusion : "target " + o.target, s.seconds, o.clients, o.files, o.seed);
  fmt::print("faults {} ({:.0f}/s), invalidates {} ({:.0f}/s), retries {}, pages installed {}\n", t.faults,
             rate(t.faults, s.seconds), t.invalidates, rate(t.invalidates, s.seconds), t.retries, t.installs);
  if (o.target.empty()) {
    fmt::print("fault p50 {}, p99 {}, p99.9 {}; invalidate p50 {}, p99 {}\n", us(t.fault_p50_ns), us(t.fault_p99_ns),
               us(t.fault_p999_ns), us(t.invalidate_p50_ns), us(t.invalidate_p99_ns));
    fmt::print("oracles: {} loads and reads, {} PTEs in {} rounds, {} canary errors\n", s.ops.at("load") + s.ops.at("read"),
               s.pte_pages, s.pte_rounds, t.canary_errors);
  }
  for (const auto& [name, n] : s.ops)
    if (n != 0) fmt::print("{} {}  ", name, n);
  fmt::print("killed {}  managers killed {}  stopped {}  SIGBUS {}  ENOSPC {}\n", s.kills, s.manager_kills, s.stops, s.sigbus,
             s.no_space);
  if (!s.note.empty()) fmt::print("{}\n", s.note);
  fmt::print("{}\n", s.violations.empty() ? "clean: no violation" : fmt::format("{} VIOLATIONS", s.violations.size()));
}

}  // namespace torture
