//===- QKLoweringTest.cpp - Lowerings of qk against their meaning ---------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "gtest/gtest.h"
TEST(QKLowering, Placeholder) {}
