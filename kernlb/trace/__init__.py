"""What an operator looks at when packets do not do what they should: captures and live traces."""
