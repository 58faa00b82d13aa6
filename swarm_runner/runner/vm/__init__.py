"""Virtual machines as jobs: their disks before, and their outcome after."""
