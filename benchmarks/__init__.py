"""Speed and accuracy of fastrobust, measured against what people use today.  See README.md in this directory."""
