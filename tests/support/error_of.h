// The errno of the Error that f throws; 0 if it throws none.
#pragma once

#include <catch2/catch.hpp>

#include "pmfs/base/error.h"

namespace pmfs::test {

template <class F>
int error_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    INFO(e.what());
    return e.err();
  }
  return 0;
}

}  // namespace pmfs::test
