//===- HostTensorTest.cpp - Arrays and .npy files ---------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Support/HostTensor.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "gtest/gtest.h"
#include <cmath>
#include <limits>

using namespace llvm;
using namespace quench;

static std::string errorOf(Expected<HostTensor> tensor) {
  if (tensor)
    return "";
  return toString(tensor.takeError());
}

/// A file of version `version` with `header` and `data`.
static std::string npy(StringRef header, StringRef data, unsigned version = 1) {
  std::string text("\x93NUMPY");
  text += static_cast<char>(version);
  text += '\0';
  for (unsigned i = 0; i < (version == 1 ? 2 : 4); ++i)
    text += static_cast<char>(header.size() >> (8 * i) & 255);
  return text + header.str() + data.str();
}

TEST(HostTensor, SharesUntilWritten) {
  HostTensor a = HostTensor::ofFloats({2, 2}, {1, 2, 3, 4});
  EXPECT_TRUE(a.isUnique());
  HostTensor b = a;
  EXPECT_FALSE(a.isUnique());
  b.mutableData<float>()[0] = 9;
  EXPECT_EQ(a.at(0), 1);
  EXPECT_EQ(b.at(0), 9);
  EXPECT_EQ(a.describe(), "f32[2,2]");
  static const float borrowed[2] = {5, 6};
  HostTensor view = HostTensor::view(ElementKind::F32, {2}, borrowed, nullptr);
  view.mutableData<float>()[1] = 7;
  EXPECT_EQ(borrowed[1], 6);
  EXPECT_EQ(view.at(1), 7);
}

TEST(HostTensor, RefusesSizes) {
  EXPECT_NE(errorOf(HostTensor::allocate(ElementKind::F32, {2, -1})), "");
  EXPECT_NE(errorOf(HostTensor::allocate(ElementKind::F32,
                                         {int64_t(1) << 40, 1 << 30})),
            "");
  EXPECT_NE(errorOf(HostTensor::allocate(
                ElementKind::F32, {0, int64_t(1) << 62, int64_t(1) << 62})),
            "");
}

TEST(HostTensor, Converts) {
  float inf = std::numeric_limits<float>::infinity();
  HostTensor x = HostTensor::ofFloats({5}, {-1.7f, 300, NAN, inf, -inf});
  HostTensor i8 = cantFail(x.convertTo(ElementKind::I8));
  EXPECT_EQ(i8.values<int8_t>(), ArrayRef<int8_t>({-1, 127, 0, 127, -128}));
  HostTensor i64 = cantFail(x.convertTo(ElementKind::I64));
  EXPECT_EQ(i64.intAt(3), std::numeric_limits<int64_t>::max());
  HostTensor i1 = cantFail(x.convertTo(ElementKind::I1));
  EXPECT_EQ(i1.intAt(0), 1);
  HostTensor half = cantFail(x.convertTo(ElementKind::F16));
  EXPECT_EQ(half.values<uint16_t>()[1], 0x5cb0); // 300 as IEEE half
  HostTensor bfloat = cantFail(x.convertTo(ElementKind::BF16));
  EXPECT_EQ(bfloat.values<uint16_t>()[1], 0x4396); // 300 as bfloat16
}

TEST(Npy, RoundTrip) {
  SmallString<64> path;
  ASSERT_FALSE(sys::fs::createTemporaryFile("quench", "npy", path));
  for (ElementKind kind :
       {ElementKind::I1, ElementKind::I8, ElementKind::U8, ElementKind::I32,
        ElementKind::I64, ElementKind::F16, ElementKind::BF16, ElementKind::F32,
        ElementKind::F64}) {
    HostTensor numbers = HostTensor::ofInts({3, 1, 2}, {0, 1, 2, 3, 4, 5});
    HostTensor tensor = cantFail(numbers.convertTo(kind));
    ASSERT_EQ(toString(tensor.saveNpy(path)), "");
    HostTensor again = cantFail(HostTensor::loadNpy(path));
    EXPECT_EQ(again.describe(), tensor.describe());
    for (int i = 0; i < 6; ++i)
      EXPECT_EQ(again.at(i), tensor.at(i));
  }
  sys::fs::remove(path);
}

TEST(Npy, Headers) {
  std::string two("\1\0\0\0\2\0\0\0", 8);
  std::string good =
      "{'descr': '<i4', 'fortran_order': False, 'shape': (2,), }";
  for (unsigned version : {1, 2, 3}) {
    HostTensor x = cantFail(HostTensor::parseNpy(npy(good, two, version), "x"));
    EXPECT_EQ(x.describe(), "i32[2]");
    EXPECT_EQ(x.intAt(1), 2);
  }
  HostTensor scalar = cantFail(HostTensor::parseNpy(
      npy("{\"shape\": (), \"descr\": \"<i8\", \"fortran_order\": True}", two),
      "x"));
  EXPECT_EQ(scalar.getRank(), 0);

  struct {
    std::string file, message;
  } bad[] = {
      {"", "not a .npy file"},
      {"hello, world", "not a .npy file"},
      {npy(good, two, 4), "version 4"},
      {npy(good, two).substr(0, 20), "ends in the header"},
      {npy(good, two).substr(0, npy(good, two).size() - 1),
       "needs 8 bytes, the file has 7"},
      {npy(good, two + "x"), "needs 8 bytes, the file has 9"},
      {npy("{'descr': '>i4', 'fortran_order': False, 'shape': (2,)}", two),
       "'>i4'"},
      {npy("{'descr': '<i4', 'fortran_order': True, 'shape': (2, 1)}", two),
       "Fortran order"},
      {npy("{'descr': '<i4', 'fortran_order': False}", two),
       "not a dictionary"},
      {npy("{'descr': '<i4', 'fortran_order': False, 'shape': (-2,)}", two),
       "at least 0"},
      {npy("{'descr': '<i4', 'fortran_order': False, 'shape': "
           "(9999999999, 9999999999)}",
           two),
       "more bytes than can be counted"},
      {npy("{'descr': '<i4', 'fortran_order': False, 'shape': (2", two),
       "not a dictionary"},
  };
  for (const auto &[file, message] : bad) {
    std::string error = errorOf(HostTensor::parseNpy(file, "the.npy"));
    EXPECT_NE(error.find(message), std::string::npos) << error;
    EXPECT_NE(error.find("'the.npy'"), std::string::npos) << error;
  }
  EXPECT_NE(errorOf(HostTensor::loadNpy("no/such/file.npy")).find("no/such"),
            std::string::npos);
}
