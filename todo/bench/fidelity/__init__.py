"""What a method does to a picture: drawn with the embedded model beside the dense picture from the same noise."""
