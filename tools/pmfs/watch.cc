// pmfs top, metrics: what a manager does, again and again.

#include <algorithm>
#include <chrono>
#include <cinttypes>
#include <cmath>
#include <csignal>
#include <cstring>
#include <ctime>
#include <map>
#include <memory>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

#include "lib/admin.h"
#include "pmfs/base/unique_fd.h"
#include "tools/pmfs/figures.h"
#include "tools/pmfs/target.h"

namespace pmfs::cli {
namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

struct Options {
  std::string dir, file;
  double every = 2;
  uint64_t count = 0;
};

volatile std::sig_atomic_t g_stop = 0;

void stop_on_signals() {
  struct sigaction a{};
  a.sa_handler = [](int) { g_stop = 1; };  // no SA_RESTART: ends the sleep
  sigaction(SIGINT, &a, nullptr);
  sigaction(SIGTERM, &a, nullptr);
}

// False: a signal came.
bool sleep_for(double seconds) {
  timespec t{static_cast<time_t>(seconds), std::lround((seconds - std::floor(seconds)) * 1e9) % 1'000'000'000};
  while (g_stop == 0 && nanosleep(&t, &t) != 0) {
  }
  return g_stop == 0;
}

// --- metrics: the Prometheus text format, version 0.0.4

std::string escaped(std::string_view label) {
  std::string out;
  for (const char c : label) {
    if (c == '\n') {
      out += "\\n";
      continue;
    }
    if (c == '\\' || c == '"') out += '\\';
    out += c;
  }
  return out;
}

std::string exposition(Volume& v, const std::string& dir) {
  const std::string volume = fmt::format("{{volume=\"{}\"", escaped(dir));
  std::string out;
  auto head = [&](std::string_view name, std::string_view kind, std::string_view help) {
    out += fmt::format("# HELP pmfs_{0} {2}\n# TYPE pmfs_{0} {1}\n", name, kind, help);
  };
  for (const Figure& f : figures_of(v)) {
    const bool total = f.kind == Figure::kTotal;
    const std::string name = fmt::format("{}{}", f.name, total ? "_total" : "");
    head(name, total ? "counter" : "gauge", f.help);
    out += fmt::format("pmfs_{}{}}} {}\n", name, volume, f.value);
  }
  const StatFs s = v.statfs();
  head("bytes", "gauge", "bytes of the region, by what they are used for");
  for (auto [state, blocks] : {std::pair{"used", s.blocks_used}, {"reserved", s.blocks_reserved}, {"zero", s.blocks_zero},
                               {"deferred", s.blocks_deferred}, {"free", s.blocks_free}})
    out += fmt::format("pmfs_bytes{},state=\"{}\"}} {}\n", volume, state, blocks * s.block_size);
  head("inodes", "gauge", "files, directories and links");
  out += fmt::format("pmfs_inodes{}}} {}\n", volume, s.inodes_used);
  head("meta_bytes_used", "gauge", "bytes of the metadata pool that are in use");
  out += fmt::format("pmfs_meta_bytes_used{}}} {}\n", volume, s.meta_bytes_used);
  head("meta_bytes", "gauge", "bytes of the metadata pool");
  out += fmt::format("pmfs_meta_bytes{}}} {}\n", volume, s.meta_bytes_total);
  const auto clients = v.clients();
  auto each = [&](std::string_view name, std::string_view kind, std::string_view help, auto value) {
    head(name, kind, help);
    for (const ClientInfo& c : clients)
      out += fmt::format("pmfs_{}{},client=\"{}\",pid=\"{}\"}} {}\n", name, volume, c.id, c.pid, value(c));
  };
  each("client_faults_total", "counter", "page faults of a client", [](auto& c) { return c.faults; });
  each("client_installs_total", "counter", "PTEs installed for a client", [](auto& c) { return c.installs; });
  each("client_mapped_bytes", "gauge", "bytes of a client's mappings", [](auto& c) { return c.mapped_bytes; });
  each("client_queue", "gauge", "mapping commands a client has not answered", [](auto& c) { return c.agent_queue; });
  return out;
}

// Whole or not at all, for a collector that may read it at any time.
void replace_file(const std::string& path, const std::string& text) {
  const std::string fresh = fmt::format("{}.{}.tmp", path, ::getpid());
  UniqueFd fd(::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!fd) throw Error(errno, fmt::format("{}: can't be made: {}", fresh, std::strerror(errno)));
  int err = 0;
  for (size_t done = 0; done < text.size() && err == 0;) {
    const ssize_t n = ::write(fd.get(), text.data() + done, text.size() - done);
    if (n < 0 && errno != EINTR) err = errno;
    if (n > 0) done += static_cast<size_t>(n);
  }
  if (err == 0 && ::rename(fresh.c_str(), path.c_str()) != 0) err = errno;
  if (err == 0) return;
  ::unlink(fresh.c_str());
  throw Error(err, fmt::format("{}: can't be written: {}", path, std::strerror(err)));
}

void metrics(const Context& c, const Options& o) {
  stop_on_signals();
  Volume v(o.dir);
  do {
    const std::string text = exposition(v, o.dir);
    if (c.json)
      print_json({{"volume", o.dir}, {"metrics", text}});
    else if (o.file.empty())
      fmt::print("{}", text);
    else
      replace_file(o.file, text);
  } while (!o.file.empty() && o.every > 0 && sleep_for(o.every));
}

// --- top

// Names of files by number: walks the volume for those that are asked for, a bounded way.
class Names {
 public:
  explicit Names(Volume& v) : volume_(v) {}
  // A path it has, or had when it was looked for; "" if none was found in the first `kMostEntries` of the volume.
  std::string of(uint64_t ino) {
    if (const auto known = paths_.find(ino); known != paths_.end()) return known->second;
    walk();
    return paths_.try_emplace(ino).first->second;
  }

 private:
  static constexpr size_t kMostEntries = 20000;
  void walk() {
    size_t seen = 0;
    std::vector<std::string> dirs{"/"};
    for (size_t next = 0; next < dirs.size() && seen < kMostEntries; ++next) {
      const std::string dir = dirs[next] == "/" ? "" : dirs[next];
      try {
        for (const Dirent& e : volume_.list(dirs[next])) {
          ++seen;
          if (S_ISDIR(e.mode)) dirs.push_back(dir + "/" + e.name);
          paths_.insert_or_assign(e.ino, dir + "/" + e.name);
        }
      } catch (const Error&) {  // it was removed meanwhile
      }
    }
  }
  Volume& volume_;
  std::map<uint64_t, std::string> paths_;
};

struct Moment {
  Clock::time_point at = Clock::now();
  std::vector<Figure> figures;
  StatFs space;
  std::map<uint64_t, ClientInfo> clients;
  std::map<uint64_t, proto::WireFile> files;
};

Moment look(Volume& v) {
  Moment m{Clock::now(), figures_of(v), v.statfs(), {}, {}};
  for (const ClientInfo& i : v.clients()) m.clients.emplace(i.id, i);
  for (const proto::WireFile& f : admin::files(v.session(), proto::kMostFiles)) m.files.emplace(f.ino, f);
  return m;
}

struct Rates {
  const Moment &was, &is;
  double seconds() const { return std::chrono::duration<double>(is.at - was.at).count(); }
  double of(uint64_t before, uint64_t now) const {
    return now < before ? 0 : static_cast<double>(now - before) / std::max(seconds(), 1e-9);
  }
  double of(std::string_view name) const { return of(figure(was.figures, name), figure(is.figures, name)); }
};

constexpr const char* kRates[] = {"faults", "installs_pages", "retries", "invalidates", "zapped_pages", "requests", "sigbus"};

// The files to which most happened in between.
Json files_of(const Rates& r, Names& names) {
  constexpr size_t kRows = 12;
  std::vector<std::pair<double, Json>> rows;
  for (const auto& [ino, now] : r.is.files) {
    const auto before = r.was.files.find(ino);
    const proto::WireFile zero{}, &was = before == r.was.files.end() ? zero : before->second;
    const double rates[] = {r.of(was.faults, now.faults), r.of(was.invalidates, now.invalidates),
                            r.of(was.zapped_pages, now.zapped_pages), r.of(was.waits, now.waits)};
    const double busy = rates[0] + rates[1] + rates[2] + rates[3];
    if (busy > 0)
      rows.emplace_back(busy, Json{{"ino", ino}, {"size", now.size}, {"faults_per_s", rates[0]}, {"invalidates_per_s", rates[1]},
                                   {"zapped_pages_per_s", rates[2]}, {"waits_per_s", rates[3]}});
  }
  std::sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
  if (rows.size() > kRows) rows.resize(kRows);
  Json list = Json::array();
  for (auto& [busy, row] : rows) {
    row["path"] = names.of(row["ino"].get<uint64_t>());
    list.push_back(std::move(row));
  }
  return list;
}

Json json_of(const Rates& r, Names& names, const std::string& dir) {
  Json j{{"volume", dir}, {"seconds", r.seconds()}};
  for (const char* name : kRates) j[fmt::format("{}_per_s", name)] = r.of(name);
  for (const char* name : {"fault_p50_ns", "fault_p99_ns", "invalidate_p50_ns", "invalidate_p99_ns"})
    j[name] = figure(r.is.figures, name);
  j["blocks_used"] = r.is.space.blocks_used;
  j["blocks_free"] = r.is.space.blocks_free;
  j["clients"] = Json::array();
  for (const auto& [id, now] : r.is.clients) {
    const auto before = r.was.clients.find(id);
    const ClientInfo zero{}, &was = before == r.was.clients.end() ? zero : before->second;
    j["clients"].push_back({{"id", id}, {"pid", now.pid}, {"mapped_bytes", now.mapped_bytes}, {"agent_queue", now.agent_queue},
                            {"faults_per_s", r.of(was.faults, now.faults)},
                            {"installs_per_s", r.of(was.installs, now.installs)}});
  }
  j["files"] = files_of(r, names);
  return j;
}

void show(const Json& j, const StatFs& s, bool terminal) {
  if (terminal) fmt::print("\x1b[H\x1b[J");
  fmt::print("{}: {} used of {}, {} clients\n", printable(j["volume"].get<std::string>()), human_size(s.blocks_used * s.block_size),
             human_size(s.blocks_total * s.block_size), s.clients);
  for (const char* name : kRates) fmt::print("{:>16}/s", name);
  fmt::print("\n");
  for (const char* name : kRates) fmt::print("{:>18.0f}", j[fmt::format("{}_per_s", name)].get<double>());
  auto us = [&](const char* name) { return j[name].get<double>() / 1e3; };
  fmt::print("\nfault p50 {:.1f} us, p99 {:.1f} us; invalidate p50 {:.1f} us, p99 {:.1f} us (since the manager began)\n\n",
             us("fault_p50_ns"), us("fault_p99_ns"), us("invalidate_p50_ns"), us("invalidate_p99_ns"));
  fmt::print("{}{:>8} {:>8} {:>12} {:>12} {:>12} {:>8}{}\n", terminal ? "\x1b[7m" : "", "client", "pid", "mapped", "faults/s",
             "PTEs/s", "queue", terminal ? "\x1b[0m" : "");
  for (const Json& c : j["clients"])
    fmt::print("{:>8} {:>8} {:>12} {:>12.0f} {:>12.0f} {:>8}\n", c["id"].get<uint64_t>(), c["pid"].get<uint64_t>(),
               human_size(c["mapped_bytes"].get<uint64_t>()), c["faults_per_s"].get<double>(), c["installs_per_s"].get<double>(),
               c["agent_queue"].get<uint64_t>());
  if (!j["files"].empty())
    fmt::print("\n{}{:>8} {:>12} {:>12} {:>14} {:>12} {:>12}  {}{}\n", terminal ? "\x1b[7m" : "", "ino", "size", "faults/s",
               "invalidates/s", "zapped/s", "waits/s", "file", terminal ? "\x1b[0m" : "");
  for (const Json& f : j["files"])
    fmt::print("{:>8} {:>12} {:>12.0f} {:>14.0f} {:>12.0f} {:>12.0f}  {}\n", f["ino"].get<uint64_t>(), human_size(f["size"].get<uint64_t>()),
               f["faults_per_s"].get<double>(), f["invalidates_per_s"].get<double>(), f["zapped_pages_per_s"].get<double>(),
               f["waits_per_s"].get<double>(), printable(f["path"].get<std::string>()));
  std::fflush(stdout);
}

void top(const Context& c, const Options& o) {
  stop_on_signals();
  Volume v(o.dir);
  const bool terminal = ::isatty(STDOUT_FILENO) == 1;
  Names names(v);
  Moment was = look(v);
  for (uint64_t n = 0; o.count == 0 || n < o.count; ++n) {
    if (!sleep_for(o.every)) return;
    Moment is = look(v);
    const Json j = json_of({was, is}, names, o.dir);
    if (c.json)
      fmt::print("{}\n", j.dump(-1, ' ', false, Json::error_handler_t::replace));
    else
      show(j, is.space, terminal);
    std::fflush(stdout);
    was = std::move(is);
  }
}

}  // namespace

void add_watch(CLI::App& app, Context& c) {
  auto o = std::make_shared<Options>();
  constexpr const char* kDir = "directory of a served volume";
  CLI::App* cmd = add_command(app, c, "top", "Show what a manager and its clients do, as it happens",
                              "  pmfs top /dev/shm/vol\n  pmfs top /dev/shm/vol --count 1 --json\n", [&c, o] { top(c, *o); });
  cmd->add_option("DIR", o->dir, kDir)->required();
  cmd->add_option("--every", o->every, "seconds")->check(CLI::Range(0.1, 3600.0))->capture_default_str();
  cmd->add_option("--count", o->count, "how many times; 0: until a signal. With --json a line each")->capture_default_str();

  cmd = add_command(app, c, "metrics", "Write a manager's figures in Prometheus' text format",
                    "  pmfs metrics /dev/shm/vol\n"
                    "  pmfs metrics /dev/shm/vol --file /var/lib/prometheus/node-exporter/pmfs.prom --every 15\n",
                    [&c, o] { metrics(c, *o); });
  cmd->add_option("DIR", o->dir, kDir)->required();
  CLI::Option* file = cmd->add_option("--file", o->file, "replace this file, as a textfile collector wants it, again and again");
  cmd->add_option("--every", o->every, "seconds between two writes of the file; 0: once")
      ->check(CLI::Range(0.0, 86400.0))->capture_default_str()->needs(file);
}

}  // namespace pmfs::cli
