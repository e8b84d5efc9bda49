"""Looking at data sets: what is wrong with them (`check`), a mended copy (`repair`), a page to read them (`viewer`)."""
