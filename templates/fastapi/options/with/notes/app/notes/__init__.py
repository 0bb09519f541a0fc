"""The example resource: its table, its rules and its queries. Replace it with your own."""
