"""xcframework.sh, as far as it goes without a Mac: what it would do, and all of it with stand-ins for
Apple's tools that write down how they were called and make the files that the real ones make.

    python3 test_xcframework.py
"""

import hashlib
import os
import plistlib
import shlex
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
APPLE = os.path.dirname(HERE)
SCRIPT = os.path.join(APPLE, "xcframework.sh")
HEADERS = sorted(os.listdir(os.path.join(APPLE, "../capi/include")))

BUILDS = {  # name: system, SDK, processor, oldest system
    "ios-arm64": ("iOS", "iphoneos", "arm64", "17.0"),
    "simulator-arm64": ("iOS", "iphonesimulator", "arm64", "17.0"),
    "simulator-x86_64": ("iOS", "iphonesimulator", "x86_64", "17.0"),
    "macos-arm64": ("Darwin", "macosx", "arm64", "14.0"),
    "macos-x86_64": ("Darwin", "macosx", "x86_64", "14.0"),
}
FRAMEWORKS = {"ios": ["ios-arm64"], "simulator": ["simulator-arm64", "simulator-x86_64"]}
FRAMEWORKS["macos"] = ["macos-arm64", "macos-x86_64"]

# Each stand-in appends its name and arguments to $CALLS.
STAND_IN = """#!/bin/sh
{ printf '%s' "$(basename "$0")"; for a; do printf ' %s' "$a"; done; echo; } >>"$CALLS"
"""
TOOLS = {
    "cmake": """
if [ "$1" = -S ]; then echo "$4" >"$CALLS.build"; mkdir -p "$4"; fi
if [ "$1" = --build ]; then echo "library of $(basename "$2")" >"$2/libmoka.dylib"; fi
""",
    "lipo": """
[ "$1" = -create ] || exit 1
shift
while [ "$1" != -output ]; do cat "$1" || exit 1; shift; done >"$CALLS.fat"
mv "$CALLS.fat" "$2"
""",
    "xcodebuild": """
for last; do :; done
mkdir "$last" || exit 1
while [ $# -gt 0 ]; do
  if [ "$1" = -framework ]; then
    slice=$last/$(basename "$(dirname "$2")"); mkdir "$slice"; cp -a "$2" "$slice/"
  fi
  shift
done
""",
    "ditto": 'for last; do :; done; echo zipped >"$last"\n',
    "shasum": 'sha256sum "$3"\n',
    "install_name_tool": 'test -f "$3"\n',
    "strip": 'test -f "$2"\n',
    "codesign": 'for last; do :; done; test -d "$last"\n',
    "ninja": "",
}


def run(*arguments, **environment):
    done = subprocess.run(
        [SCRIPT, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return done.returncode, done.stdout, done.stderr


class DryRun(unittest.TestCase):
    def setUp(self):
        code, out, err = run("--dry-run", "/nowhere/out")
        self.assertEqual((code, err), (0, ""))
        self.lines = [shlex.split(line) for line in out.splitlines()]

    def of(self, tool):
        return [line[1:] for line in self.lines if line[0] == tool]

    def test_it_does_nothing(self):
        self.assertFalse(os.path.exists("/nowhere"))

    def test_five_libraries(self):
        configured = [line for line in self.of("cmake") if line[0] == "-S"]
        self.assertEqual(len(configured), len(BUILDS))
        for line, (name, (system, sdk, processor, oldest)) in zip(configured, BUILDS.items()):
            self.assertEqual(os.path.basename(line[3]), name)
            for option in (
                f"-DCMAKE_SYSTEM_NAME={system}",
                f"-DCMAKE_SYSTEM_PROCESSOR={processor}",
                f"-DCMAKE_OSX_SYSROOT={sdk}",
                f"-DCMAKE_OSX_ARCHITECTURES={processor}",
                f"-DCMAKE_OSX_DEPLOYMENT_TARGET={oldest}",
                "-DMOKA_BUILD_TOOLS=OFF",
            ):
                self.assertIn(option, line)
        built = [line for line in self.of("cmake") if line[0] == "--build"]
        self.assertEqual([line[2:] for line in built], [["--target", "moka_c"]] * len(BUILDS))
        self.assertEqual([line[1] for line in built], [line[3] for line in configured])

    def test_three_frameworks_in_one(self):
        joined = [[os.path.basename(os.path.dirname(file)) for file in line[1:-2]] for line in self.of("lipo")]
        self.assertEqual(joined, list(FRAMEWORKS.values()))
        (made,) = self.of("xcodebuild")
        self.assertEqual(made[0], "-create-xcframework")
        folders = [made[i + 1] for i, word in enumerate(made) if word == "-framework"]
        self.assertEqual(
            [os.path.basename(os.path.dirname(folder)) for folder in folders], list(FRAMEWORKS)
        )
        self.assertEqual(self.lines[-1], ["shasum", "-a", "256", "/nowhere/out/CMoka.xcframework.zip"])

    def test_the_oldest_systems_are_those_of_the_package(self):
        with open(os.path.join(APPLE, "Package.swift")) as file:
            text = file.read()
        for platform, oldest in (("iOS", "17"), ("macOS", "14")):
            self.assertIn(f".{platform}(.v{oldest})", text)

    def test_wrong_arguments(self):
        self.assertIn("--all is no option", run("--all")[2])
        self.assertIn("two folders", run("a", "b")[2])


class StandIns(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.calls = os.path.join(self.folder, "calls")
        self.tools = os.path.join(self.folder, "tools")
        self.out = os.path.join(self.folder, "out")
        os.mkdir(self.tools)
        for tool, body in TOOLS.items():
            path = os.path.join(self.tools, tool)
            with open(path, "w") as file:
                file.write(STAND_IN + body)
            os.chmod(path, 0o755)
        self.environment = {"PATH": self.tools + ":" + os.environ["PATH"], "CALLS": self.calls}

    def test_what_comes_out(self):
        for _ in range(2):  # the second time over the first
            code, out, err = run(self.out, **self.environment)
            self.assertEqual((code, err), (0, ""))
        self.assertEqual(sorted(os.listdir(self.out)), ["CMoka.xcframework", "CMoka.xcframework.zip"])
        sum = hashlib.sha256(b"zipped\n").hexdigest()
        self.assertEqual(
            out,
            '.binaryTarget(name: "CMoka", url: "URL/CMoka.xcframework.zip", '
            f'checksum: "{sum}")\n',
        )
        for name, builds in FRAMEWORKS.items():
            self.check_framework(name, builds)

    def check_framework(self, name, builds):
        framework = os.path.join(self.out, "CMoka.xcframework", name, "CMoka.framework")
        with open(os.path.join(framework, "CMoka")) as file:
            self.assertEqual(file.read(), "".join(f"library of {build}\n" for build in builds))
        self.assertEqual(sorted(os.listdir(os.path.join(framework, "Headers"))), HEADERS)
        self.assertEqual(os.listdir(os.path.join(framework, "Modules")), ["module.modulemap"])
        resources = os.path.join(framework, "Resources") if name == "macos" else framework
        with open(os.path.join(resources, "Info.plist"), "rb") as file:
            info = plistlib.load(file)
        platform = {"ios": "iPhoneOS", "simulator": "iPhoneSimulator", "macos": "MacOSX"}[name]
        oldest = ("LSMinimumSystemVersion", "14.0") if name == "macos" else ("MinimumOSVersion", "17.0")
        self.assertEqual(info["CFBundleSupportedPlatforms"], [platform])
        self.assertEqual(info[oldest[0]], oldest[1])
        self.assertEqual((info["CFBundleExecutable"], info["CFBundlePackageType"]), ("CMoka", "FMWK"))
        self.assertRegex(info["CFBundleVersion"], r"^\d+\.\d+\.\d+$")
        with open(os.path.join(resources, "PrivacyInfo.xcprivacy"), "rb") as file:
            privacy = plistlib.load(file)
        self.assertIs(privacy["NSPrivacyTracking"], False)
        (accessed,) = privacy["NSPrivacyAccessedAPITypes"]
        self.assertEqual(
            accessed["NSPrivacyAccessedAPIType"], "NSPrivacyAccessedAPICategoryFileTimestamp"
        )
        self.assertEqual(accessed["NSPrivacyAccessedAPITypeReasons"], ["C617.1", "3B52.1"])
        if name == "macos":
            self.assertEqual(os.readlink(os.path.join(framework, "Versions/Current")), "A")
            self.assertEqual(os.readlink(os.path.join(framework, "CMoka")), "Versions/Current/CMoka")

    def test_names_and_signatures(self):
        self.assertEqual(run(self.out, MOKA_SIGN="me", **self.environment)[0], 0)
        with open(self.calls) as file:
            calls = file.read().splitlines()
        names = [call.split()[2] for call in calls if call.startswith("install_name_tool ")]
        flat = "@rpath/CMoka.framework/CMoka"
        self.assertEqual(names, [flat, flat, "@rpath/CMoka.framework/Versions/A/CMoka"])
        signed = [call for call in calls if call.startswith("codesign ")]
        self.assertEqual(len(signed), 4)
        self.assertTrue(all("--sign me" in call for call in signed))

    def test_a_failed_build_ends_it(self):
        with open(os.path.join(self.tools, "cmake"), "w") as file:
            file.write("#!/bin/sh\nexit 3\n")
        self.assertEqual(run(self.out, **self.environment)[0], 3)
        self.assertEqual(os.listdir(self.out), [])

    def test_no_mac(self):
        code, out, err = run(self.out)
        if sys.platform == "darwin":
            self.skipTest("this is a Mac")
        self.assertEqual((code, out), (1, ""))
        self.assertIn("this needs a Mac with Xcode", err)


if __name__ == "__main__":
    result = unittest.TextTestRunner(verbosity=2).run(
        unittest.defaultTestLoader.loadTestsFromModule(sys.modules["__main__"])
    )
    bad = len(result.failures) + len(result.errors)
    good = result.testsRun - bad - len(result.skipped)
    print(f"test cases: {good + bad} | {good} passed | {bad} failed")
    sys.exit(1 if bad or not good else 0)
