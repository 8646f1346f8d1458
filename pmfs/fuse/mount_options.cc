#include "pmfs/fuse/mount_options.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <string_view>

#include "pmfs/base/error.h"

namespace pmfs::fuse {

namespace {

using std::string_view_literals::operator""sv;

// mount(8) and systemd read them; most are taken off before a mount helper sees them, not all by every version.
constexpr std::array kForOthers{"defaults"sv, "auto"sv,  "noauto"sv, "nofail"sv,  "_netdev"sv, "user"sv,
                                "nouser"sv,   "users"sv, "owner"sv,  "noowner"sv, "group"sv,   "nogroup"sv};
// With their reasons: the kernel would then believe its own idea of sizes and times; the others are ours to say.
constexpr std::array kRefused{"writeback_cache"sv, "kernel_cache"sv, "auto_cache"sv, "fsname"sv,  "subtype"sv,
                              "fd"sv,              "rootmode"sv,     "user_id"sv,    "group_id"sv, "remount"sv};

template <size_t N>
bool among(const std::array<std::string_view, N>& all, std::string_view s) {
  return std::find(all.begin(), all.end(), s) != all.end();
}

unsigned number(std::string_view option, std::string_view text) {
  unsigned n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error != std::errc() || end != text.data() + text.size() || n < 1 || n > kMaxThreads) {
    fail(EINVAL, "mount option {}: a number from 1 to {} is wanted", option, kMaxThreads);
  }
  return n;
}

HaltPollWhen when(std::string_view option, std::string_view text) {
  if (text == "auto") return HaltPollWhen::kAuto;
  if (text == "always") return HaltPollWhen::kAlways;
  if (text == "never") return HaltPollWhen::kNever;
  fail(EINVAL, "mount option {}: auto, always or never is wanted", option);
}

}  // namespace

ParsedOptions parse(const MountOptions& o) {
  ParsedOptions p;
  p.threads = o.threads;
  for (std::string_view rest : o.options) {
    while (!rest.empty()) {
      const std::string_view option = rest.substr(0, rest.find(','));
      rest.remove_prefix(std::min(rest.size(), option.size() + 1));
      const size_t equals = option.find('=');
      const std::string_view name = option.substr(0, equals);
      const std::string_view value = equals == option.npos ? ""sv : option.substr(equals + 1);
      if (name.empty() || among(kForOthers, name) || name == "comment" || name.starts_with("x-")) continue;
      if (name == "max_threads") {
        p.threads = number(option, value);
      } else if (name == "halt_poll") {
        p.halt_poll = when(option, value);
      } else if (name == "remount") {
        fail(EINVAL, "mount option remount: is between mount(8) and the kernel: mount -i -o remount,ro {}", o.dir);
      } else if (among(kRefused, name)) {
        fail(EINVAL, "mount option {}: native clients change files too; pmfs says itself what the kernel may assume", option);
      } else {
        p.fuse.emplace_back(option);
      }
    }
  }
  return p;
}

}  // namespace pmfs::fuse
