// main of the tests over several hosts: they run on a machine of their own.

#include "gtest/gtest.h"
#include "tests/system/hosts/test_hosts.h"

int main(int argc, char** argv) {
  deltaserve::test::EnterMachine(argc, argv);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
