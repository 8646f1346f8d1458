// The C++ API in one page: create a file, map it, store, make durable, read back, punch a hole.
//
//   cpp_client VOLUME_DIRECTORY      (a manager must serve it: pmfs serve VOLUME_DIRECTORY)
#include <cstdio>
#include <cstring>

#include "pmfs/pmfs.hpp"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s VOLUME_DIRECTORY\n", argv[0]);
    return 2;
  }
  try {
    pmfs::Volume volume(argv[1]);
    pmfs::File file = volume.open("/example-cpp", O_RDWR | O_CREAT, 0644);
    file.truncate(1 << 20);

    // A plain store reaches the block: no page cache, no copy.
    pmfs::Mapping map = file.map(0, 1 << 20);
    const char text[] = "straight into the block";
    std::memcpy(map.data() + 8192, text, sizeof text);
    pmfs::persist(map.data() + 8192, sizeof text);  // CLWB + SFENCE, no system call

    // The manager reads the same block for read().
    std::byte back[sizeof text];
    if (file.read(back, 8192) != sizeof back || std::memcmp(back, text, sizeof text) != 0) {
      std::fprintf(stderr, "read back something else\n");
      return 1;
    }
    std::printf("read back: %s\n", reinterpret_cast<const char*>(back));

    // The hole takes the page away from every process that maps it; the next touch finds zeros.
    file.punch(8192, 4096);
    if (map.bytes()[8192] != std::byte{0}) {
      std::fprintf(stderr, "the hole is not zero\n");
      return 1;
    }
    std::printf("after the punch: %d\n", static_cast<int>(map.bytes()[8192]));

    map.unmap();
    file.close();
    volume.unlink("/example-cpp");
  } catch (const pmfs::Error& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
  return 0;
}
