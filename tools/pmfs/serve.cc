// pmfs serve: the manager of one volume, in the foreground. Manager's side: no client headers here.

#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fmt/format.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include "pmfs/base/error.h"
#include "pmfs/base/pause.h"
#include "pmfs/base/unique_fd.h"
#include "pmfs/exclusion/scheme.h"
#include "pmfs/server/hand_over.h"
#include "pmfs/server/server.h"
#include "tools/pmfs/notify.h"
#include "tools/pmfs/serve.h"
#include "tools/pmfs/target.h"

namespace pmfs::cli {
namespace {

constexpr unsigned kBrokenJitter = 200, kBrokenAckedJitter = 10;  // acked: there are fewer faults to get in between

std::atomic<int> g_signal{0};
std::atomic<server::Server*> g_server{nullptr};

void on_signal(int sig) {
  const int saved = errno;
  g_signal.store(sig);
  if (server::Server* s = g_server.load()) s->request_stop();
  errno = saved;
}

void handle_signals() {
  struct sigaction sa {};
  sa.sa_handler = on_signal;
  sigfillset(&sa.sa_mask);
  for (const int sig : {SIGTERM, SIGINT}) sigaction(sig, &sa, nullptr);
  sa.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &sa, nullptr);
  sigaction(SIGHUP, &sa, nullptr);  // a closed terminal does not take the volume away
}

// Every client costs the manager a handful of descriptors.
void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

void list_schemes(const Context& c) {
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (const exclusion::SchemeInfo& s : exclusion::schemes()) {
    const bool by_default = s.name == exclusion::kDefaultScheme;
    if (c.json) {
      all.push_back({{"name", s.name}, {"source", s.source}, {"idea", s.idea}, {"sound", s.sound},
                     {"default", by_default}});
    } else {
      fmt::print("{:<12} {} ({}){}{}\n", s.name, s.idea, s.source, by_default ? ", the default" : "",
                 s.sound ? "" : "; broken on purpose, for the torture tool");
    }
  }
  if (c.json) print_json({{"schemes", all}});
}

unsigned parse_mode(const char* option, const std::string& text) {
  unsigned mode = 0;
  for (const char ch : text) {
    if (ch < '0' || ch > '7' || text.size() > 4) mode = 01000;
    if (mode > 0777) break;
    mode = mode * 8 + static_cast<unsigned>(ch - '0');
  }
  if (text.empty() || mode > 0777) {
    throw UsageError(fmt::format("{} {}: is not a mode; write it in octal, as 0600", option, text));
  }
  return mode;
}

void tell_ready(int fd) {
  const char byte = 1;
  ssize_t n;
  do {
    n = ::write(fd, &byte, 1);
  } while (n < 0 && errno == EINTR);
  if (n != 1) spdlog::warn("ready fd {}: can't be written to: {}", fd, std::strerror(errno));
  if (fd > 2) ::close(fd);
}

void serve(const Context& c, ServeOptions& o) {
  if (o.server.exclusion == "list") return list_schemes(c);
  if (o.dir.empty()) throw UsageError("serve: no volume is named; write pmfs serve DIR");
  run_manager(o);
}

// Who started us need not wait for an end of file from us.
void leave_terminal() {
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  for (const int fd : {0, 1, 2}) ::dup2(null.get(), fd);
}

}  // namespace

bool wait_for_end(const std::string& volume, double seconds) {
  constexpr double kPause = 0.02;
  for (double waited = 0;; waited += kPause) {
    try {
      lock_volume(volume);
      return true;
    } catch (const Error& busy) {
      if (busy.err() != EBUSY) throw;
    }
    if (waited > seconds) return false;
    ::usleep(static_cast<useconds_t>(kPause * 1e6));
  }
}

void let_it_end(const std::string& volume) {
  constexpr double kSeconds = 3;
  if (!std::filesystem::exists(volume + "/meta")) return;
  try {
    wait_for_end(volume, kSeconds);
  } catch (const Error&) {  // said by who takes the lock
  }
}

void run_manager(ServeOptions& o) {
  o.server.volume = o.dir;
  o.server.socket_mode = parse_mode("--socket-mode", o.socket_mode);
  if (!o.read_only_socket_mode.empty())
    o.server.read_only_socket_mode = parse_mode("--read-only-socket-mode", o.read_only_socket_mode);
  if (o.ready_fd >= 0 && ::fcntl(o.ready_fd, F_GETFD) < 0) {
    throw UsageError(fmt::format("--ready-fd {}: is not an open file descriptor; open it in the shell, as {}>file",
                                 o.ready_fd, o.ready_fd));
  }
  auto log = o.log.empty() ? spdlog::stderr_color_mt("pmfs") : spdlog::basic_logger_mt("pmfs", o.log);
  log->flush_on(spdlog::level::info);
  log->set_pattern("%Y-%m-%dT%H:%M:%S.%e %^%l%$ pmfs[%P]: %v");
  log->set_level(o.verbose ? spdlog::level::debug : spdlog::level::info);
  spdlog::set_default_logger(log);
  handle_signals();
  raise_descriptor_limit();
  // A broken scheme is run to be caught, however few threads the machine runs at once.
  const exclusion::SchemeInfo* scheme = exclusion::find_scheme(o.server.exclusion);
  const bool broken = o.server.allow_broken && scheme != nullptr && !scheme->sound;
  o.server.jitter = o.jitter.value_or(!broken ? 0 : o.server.force_acked ? kBrokenAckedJitter : kBrokenJitter);
  if (o.server.jitter != 0) spdlog::warn("jitter is on: one thread in {} sleeps at pause points", o.server.jitter);
  if (o.takeover) server::take_over(o.dir, o.takeover_timeout);
  {
    server::Server s(o.server);
    s.start();
    g_server.store(&s);
    if (g_signal.load() != 0) s.request_stop();
    MountedVolume& v = s.volume();
    if (!v.scheme().sound) spdlog::warn("exclusion {}: broken on purpose; files will be damaged", v.scheme().name);
    spdlog::info("{}: served; {}, {}, exclusion {}, {} pagers, {} workers, {} since the last mount", o.dir,
                 human_size(v.region().blocks() * kBlockSize), v.gated() ? "gated" : "acked", v.scheme().name, o.server.pagers, o.server.workers,
                 v.superblock().was_clean ? "a clean stop" : "a crash, repaired,");
    std::unique_ptr<fuse::Mount> mount;
    if (!o.mount.dir.empty()) {
      mount = std::make_unique<fuse::Mount>(v, o.mount, [&s] { s.request_stop(); });
      spdlog::info("{}: mounted on {}", o.dir, o.mount.dir);
    }
    if (o.ready_fd >= 0) tell_ready(o.ready_fd);
    tell_systemd("READY=1");
    if (!o.log.empty()) leave_terminal();
    s.wait();
    g_server.store(nullptr);
    if (s.handed_over()) {
      spdlog::info("{}: handed over", o.dir);
      spdlog::shutdown();
      ::_exit(0);  // as if killed: the clients must find their sessions as they are
    }
    tell_systemd("STOPPING=1");
    const int sig = g_signal.load();
    spdlog::info("{}: stopping, {}", o.dir, sig != 0 ? fmt::format("signal {}", sig) : "asked by a client");
  }
  spdlog::info("{}: stopped", o.dir);
  spdlog::shutdown();
}

void add_serve(CLI::App& app, Context& c) {
  auto o = std::make_shared<ServeOptions>();
  CLI::App* cmd = add_command(
      app, c, "serve", "Serve a volume to its clients, in the foreground, until SIGTERM or pmfs shutdown",
      "  pmfs serve /dev/shm/vol\n"
      "  pmfs serve /dev/shm/vol --pagers 4 --workers 8\n"
      "  pmfs serve /dev/shm/vol --takeover             replace the manager that runs; its clients notice nothing\n"
      "  pmfs serve --exclusion list                    the exclusion schemes there are\n"
      "  pmfs serve /dev/shm/vol --ready-fd 3 3>fifo    a byte in fifo says that clients can connect\n",
      [&c, o] { serve(c, *o); });
  cmd->add_option("DIR", o->dir, "directory of the volume");
  cmd->add_option("--exclusion", o->server.exclusion, "scheme that keeps faults and truncates apart, or 'list'")
      ->capture_default_str();
  cmd->add_option("--pagers", o->server.pagers, "threads that resolve faults")
      ->check(CLI::Range(1, 64))->capture_default_str();
  cmd->add_option("--workers", o->server.workers, "threads that answer requests")
      ->check(CLI::Range(1, 256))->capture_default_str();
  cmd->add_option("--ready-fd", o->ready_fd, "write one byte to this descriptor when clients can connect")
      ->check(CLI::Range(0, 1 << 20));
  cmd->add_flag("--takeover", o->takeover, "take the volume over from the manager that serves it, with its clients");
  cmd->add_option("--takeover-timeout", o->takeover_timeout, "seconds to wait for its answer, and then for its end")
      ->check(CLI::Range(0.1, 3600.0))->capture_default_str();
  cmd->add_option("--grace", o->server.grace_seconds,
                  "seconds for which the clients of a manager that died may come back to their unlinked files")
      ->check(CLI::Range(0.0, 86400.0))->capture_default_str();
  cmd->add_option("--fence-after", o->server.fence_seconds,
                  "acked mode, and read-only clients: one that does not let go of blocks for so many seconds is killed")
      ->check(CLI::Range(0.1, 86400.0))->capture_default_str();
  cmd->add_flag("--force-acked", o->server.force_acked,
                "acked mode, as on real DAX, on a region that does not need it: clients map blocks directly");
  cmd->add_option("--mount", o->mount.dir, "mount the volume there too, until it is unmounted; see pmfs mount");
  cmd->add_option("--mount-option", o->mount.options, "of that mount, as in pmfs mount -o");
  cmd->add_option("--socket-mode", o->socket_mode, "who may connect, and so reach every file's data")
      ->capture_default_str();
  cmd->add_option("--read-only-socket-mode", o->read_only_socket_mode,
                  "make a second socket, for clients that only read, with this mode: who may read every file's data");
  cmd->add_flag("--torture-allow-broken", o->server.allow_broken, "accept schemes that are broken on purpose");
  cmd->add_option_function<double>("--torture-lease", [o](const double& seconds) {
        o->server.lease = {static_cast<int64_t>(seconds * 1e9), false};
      }, "let the kernel believe names and attributes for so long, and native clients in without waiting: to see a test fail")
      ->check(CLI::Range(0.001, 3600.0));
  cmd->add_flag("--canary", o->server.canary, "fill freed blocks with a pattern and check it at reuse");
  cmd->add_flag("--trace", o->server.trace, "remember the last operations on every block");
  cmd->add_option("--jitter", o->jitter,
                  fmt::format("at a pause point one thread in N sleeps a little; 0: none, the default but for broken "
                              "schemes: {}", kBrokenJitter));
  cmd->add_flag("-v,--verbose", o->verbose, "log more");
}

}  // namespace pmfs::cli
