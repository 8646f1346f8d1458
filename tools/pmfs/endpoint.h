// The two ends of a copy: a local file or a file in a volume, behind one interface each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

namespace pmfs::cli {

struct DataRange {
  uint64_t begin, end;  // bytes
};

class Source {
 public:
  virtual ~Source() = default;
  virtual const std::string& text() const = 0;  // for people
  virtual std::string name() const = 0;         // last component
  virtual uint32_t mode() const = 0;            // permission bits
  virtual std::optional<uint64_t> size() const = 0;  // none: a pipe or device, read to its end
  // The first bytes at or behind `pos` that are not a hole; none: only a hole is left.
  virtual std::optional<DataRange> next_data(uint64_t pos) = 0;
  virtual size_t read(std::span<std::byte> out, uint64_t pos) = 0;  // 0: the end
};

// Writes to a temporary name in the destination's directory; nothing is left of it unless commit() returned.
class Sink {
 public:
  virtual ~Sink() = default;
  virtual const std::string& text() const = 0;  // the destination
  virtual void resize(uint64_t size) = 0;       // what is not written stays a hole
  virtual void write(std::span<const std::byte> in, uint64_t pos) = 0;
  virtual void commit() = 0;  // durable, and under its name
};

// `text`: VOLUME_DIR:/path or a local path.
std::unique_ptr<Source> open_source(const std::string& text);
// A directory as destination takes the source's name. `mode`: permission bits before umask.
std::unique_ptr<Sink> open_sink(const std::string& text, const std::string& source_name, uint32_t mode);

}  // namespace pmfs::cli
