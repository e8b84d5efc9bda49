"""What can be seen in pictures and clips, as text that builders write of: lines of text with boxes, scenes."""
