"""What joins unstuck to other libraries, one file each; importing a file registers what it offers."""
