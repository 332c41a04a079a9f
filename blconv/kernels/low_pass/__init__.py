"""The kernel that low-passes every plane, for both layouts and for 16-bit numbers."""
