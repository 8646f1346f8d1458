#include "tools/pmfs/target.h"

#include <charconv>
#include <cstdio>
#include <ctime>

#include <sys/stat.h>

#include <fmt/format.h>

namespace pmfs::cli {

std::string Target::name() const {
  const size_t end = path.find_last_not_of('/');
  if (end == std::string::npos) return "";
  const size_t slash = path.rfind('/', end);
  return path.substr(slash + 1, end - slash);
}

Target Target::parent() const {
  const size_t end = path.find_last_not_of('/');
  if (end == std::string::npos) return {volume, "/"};
  const size_t slash = path.rfind('/', end);
  return {volume, path.substr(0, std::max<size_t>(slash, 1))};
}

Target Target::child(std::string_view name) const {
  std::string p = path;
  if (p.empty() || p.back() != '/') p += '/';
  return {volume, p.append(name)};
}

bool is_target(std::string_view text) {
  const size_t at = text.find(":/");
  return at != std::string_view::npos && at > 0;
}

Target parse_target(const std::string& text) {
  if (!is_target(text)) {
    throw UsageError(fmt::format("{}: is not a file in a volume; write VOLUME_DIR:/path/in/volume", text));
  }
  const size_t at = text.find(":/");
  return {text.substr(0, at), text.substr(at + 1)};
}

uint64_t parse_size(const std::string& text, std::string_view option) {
  uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, ec] = std::from_chars(text.data(), end, value);
  if (ec == std::errc::result_out_of_range) {
    throw UsageError(fmt::format("{} {}: is more than 64 bits hold", option, text));
  }
  std::string unit(rest, end);
  if (unit.size() > 1 && unit.ends_with("iB")) unit.resize(unit.size() - 2);
  if (unit.size() > 1 && unit.ends_with("B")) unit.resize(unit.size() - 1);
  unsigned shift = 0;
  bool known = ec == std::errc() && unit.size() <= 1;
  if (known && !unit.empty()) {
    switch (unit[0]) {
      case 'k': case 'K': shift = 10; break;
      case 'm': case 'M': shift = 20; break;
      case 'g': case 'G': shift = 30; break;
      case 't': case 'T': shift = 40; break;
      case 'B': break;
      default: known = false;
    }
  }
  if (!known) {
    throw UsageError(fmt::format("{} {}: is not a size; write a whole number of bytes, or with K, M, G or T", option,
                                 text.empty() ? "''" : text));
  }
  if (value > (UINT64_MAX >> shift)) throw UsageError(fmt::format("{} {}: is more than 64 bits hold", option, text));
  return value << shift;
}

std::string human_size(uint64_t bytes) {
  static constexpr const char* kUnits[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (bytes < 1024) return fmt::format("{} B", bytes);
  double v = static_cast<double>(bytes) / 1024;
  size_t u = 0;
  while (v >= 1023.95 && u + 1 < std::size(kUnits)) {
    v /= 1024;
    ++u;
  }
  return fmt::format("{:.1f} {}", v, kUnits[u]);
}

CLI::App* add_command(CLI::App& app, Context& c, const std::string& name, const std::string& description,
                      const std::string& examples, std::function<void()> run) {
  CLI::App* cmd = app.add_subcommand(name, description);
  cmd->add_flag("--json", c.json, "the result, or the error, as one JSON document on standard output");
  cmd->footer("Examples:\n" + examples);
  cmd->callback([&c, run = std::move(run)] { c.run = run; });
  return cmd;
}

void print_json(const nlohmann::ordered_json& j) {
  fmt::print("{}\n", j.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

std::string printable(std::string_view name) {
  std::string out;
  for (const char ch : name) {
    const auto b = static_cast<unsigned char>(ch);
    if (b < 0x20 || b == 0x7f) {
      out += fmt::format("\\x{:02x}", b);
    } else {
      out += ch;
    }
  }
  return out;
}

std::string mode_text(uint32_t mode) {
  std::string s = S_ISDIR(mode) ? "d" : S_ISLNK(mode) ? "l" : S_ISREG(mode) ? "-" : "?";
  for (int shift = 6; shift >= 0; shift -= 3) {
    const uint32_t bits = mode >> shift;
    s += (bits & 4) != 0 ? 'r' : '-';
    s += (bits & 2) != 0 ? 'w' : '-';
    s += (bits & 1) != 0 ? 'x' : '-';
  }
  if ((mode & S_ISUID) != 0) s[3] = (mode & 0100) != 0 ? 's' : 'S';
  if ((mode & S_ISGID) != 0) s[6] = (mode & 0010) != 0 ? 's' : 'S';
  if ((mode & S_ISVTX) != 0) s[9] = (mode & 0001) != 0 ? 't' : 'T';
  return s;
}

std::string time_text(int64_t ns) {
  const time_t t = static_cast<time_t>(ns / 1'000'000'000 - (ns % 1'000'000'000 < 0 ? 1 : 0));
  tm local{};
  localtime_r(&t, &local);
  char buffer[32];
  std::strftime(buffer, sizeof buffer, "%Y-%m-%d %H:%M:%S", &local);
  return buffer;
}

}  // namespace pmfs::cli
